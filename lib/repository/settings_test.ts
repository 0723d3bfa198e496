import assert from "node:assert/strict";
import { parseSettings, SettingError } from "./settings.ts";

function config(values: Record<string, string>): string {
  return Object.entries(values).map(([key, value]) => `p2p-iroh.${key}\n${value}\0`).join("");
}

Deno.test("parseSettings() uses iroh's public relays and DNS by default", () => {
  assert.deepEqual(parseSettings(""), {
    relay: { kind: "n0" },
    relayTokenFile: undefined,
    lookup: true,
    lan: true,
    lane: true,
    warm: true,
    bind: undefined,
    external: undefined,
    maxConnections: 100,
  });
});

Deno.test("parseSettings() switches the look-up off if relay is not n0, unless lookup says otherwise", () => {
  assert.equal(parseSettings(config({ relay: "none" })).lookup, false);
  assert.equal(parseSettings(config({ relay: "https://relay.example" })).lookup, false);
  assert.equal(parseSettings(config({ relay: "none", lookup: "n0" })).lookup, true);
  assert.equal(parseSettings(config({ lookup: "none" })).lookup, false);
});

Deno.test("parseSettings() accepts several relays, without duplicates, and normalises their URLs", () => {
  const { relay } = parseSettings(
    config({ relay: " https://a.example  http://10.0.0.1:3340/\nhttps://a.example/ " }),
  );
  assert.deepEqual(relay, {
    kind: "custom",
    urls: ["https://a.example/", "http://10.0.0.1:3340/"],
  });
});

Deno.test("parseSettings() accepts an absolute path, and one in the home folder", () => {
  const home = (name: string) => name === "HOME" ? "/home/ann" : undefined;
  const parsed = (path: string, environment = home) =>
    parseSettings(config({ "relay-token-file": path }), environment).relayTokenFile;
  assert.equal(parsed("/run/secrets/relay"), "/run/secrets/relay");
  assert.equal(parsed("~/relay-token"), "/home/ann/relay-token");
  for (const path of ["", "relay-token", "~ann/relay-token", "~"]) {
    assert.throws(() => parsed(path), /p2p-iroh\.relay-token-file/);
  }
  assert.throws(() => parsed("~/relay-token", () => undefined), SettingError);
});

Deno.test("parseSettings() uses the last value of a key, as git does", () => {
  assert.equal(
    parseSettings(config({ relay: "n0" }) + config({ relay: "none" })).relay.kind,
    "none",
  );
});

Deno.test("parseSettings() lets the environment override git config", () => {
  const environment: Record<string, string> = {
    GIT_ANNEX_P2P_IROH_RELAY: "none",
    GIT_ANNEX_P2P_IROH_MAX_CONNECTIONS: "7",
  };
  const settings = parseSettings(
    config({ relay: "n0", "max-connections": "5" }),
    (name) => environment[name],
  );
  assert.deepEqual([settings.relay.kind, settings.maxConnections], ["none", 7]);
});

Deno.test("parseSettings() names an invalid value, its key, and the values that are allowed", () => {
  const cases: [key: string, value: string, hint: RegExp][] = [
    ["relay", "nO", /n0, none, or URLs/],
    ["relay", "", /n0, none, or URLs/],
    ["relay", "ftp://relay.example", /URLs of relays/],
    ["relay", "https://user:secret@relay.example", /URLs of relays/],
    ["relay", "https://a.example none", /URLs of relays/],
    ["relay", `https://${"a".repeat(300)}.example`, /URLs of relays/],
    [
      "relay",
      Array.from({ length: 9 }, (_, i) => `https://${i}.example`).join(" "),
      /URLs of relays/,
    ],
    ["lookup", "yes", /n0 or none/],
    ["external", "example.com", /ADDRESS or ADDRESS:PORT/],
    ["external", "1.2.3.4:0", /ADDRESS or ADDRESS:PORT/],
    ["external", "fe80::1%eth0", /ADDRESS or ADDRESS:PORT/],
    ["external", "1.2.3.4:0x5", /ADDRESS or ADDRESS:PORT/],
    ["bind", "7777", /ADDRESS:PORT/],
    ["bind", "localhost:7777", /ADDRESS:PORT/],
    ["bind", "0.0.0.0:65536", /ADDRESS:PORT/],
    ["bind", "256.0.0.1:1", /ADDRESS:PORT/],
    ["bind", "::1:7777", /ADDRESS:PORT/],
    ["bind", "[1.2.3.4]:7777", /ADDRESS:PORT/],
    ["max-connections", "0", /a number from 1 to 10000/],
    ["max-connections", "-1", /a number from 1 to 10000/],
    ["max-connections", "1e3", /a number from 1 to 10000/],
    ["max-connections", "10001", /a number from 1 to 10000/],
  ];
  for (const [key, value, hint] of cases) {
    assert.throws(() => parseSettings(config({ [key]: value })), (error: SettingError) => {
      assert(error instanceof SettingError);
      assert.match(error.message, new RegExp(`the setting p2p-iroh.${key} is "`));
      assert.match(error.hint!, hint);
      return true;
    }, `${key} = ${value}`);
  }
  assert.throws(
    () => parseSettings("", (name) => name === "GIT_ANNEX_P2P_IROH_BIND" ? "x\x1b[1m" : undefined),
    { message: 'the setting GIT_ANNEX_P2P_IROH_BIND is "x [1m"' },
  );
});

Deno.test("parseSettings() treats a key without a value as an empty one", () => {
  assert.throws(() => parseSettings("p2p-iroh.relay\0"), SettingError);
});

Deno.test("parseSettings() does not show the password in a URL", () => {
  const wrong = config({ relay: "https://user:hunter2@relay.example" });
  assert.throws(() => parseSettings(wrong), (error: unknown) => {
    assert(error instanceof SettingError);
    assert.match(error.message, /"https:\/\/…@relay\.example"/);
    return !error.message.includes("hunter2");
  });
});

Deno.test("parseSettings() accepts git's words for true and false", () => {
  for (const yes of ["true", "yes", "on", "1", "TRUE"]) {
    assert.equal(parseSettings(config({ lan: yes })).lan, true);
  }
  for (const no of ["false", "no", "off", "0"]) {
    assert.equal(parseSettings(config({ lan: no })).lan, false);
  }
  assert.throws(() => parseSettings(config({ lan: "maybe" })), /p2p-iroh\.lan is "maybe"/);
});

Deno.test("parseSettings() accepts an external address with and without a port", () => {
  for (const external of ["203.0.113.1", "203.0.113.1:7777", "2001:db8::1", "[2001:db8::1]:7777"]) {
    assert.equal(parseSettings(config({ external })).external, external);
  }
});
