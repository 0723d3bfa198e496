/** Peers on a local network that has no relay, no DNS and no way out. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeTicket, encodeTicket } from "../lib/repository/ticket.ts";
import { newIdentity } from "../lib/repository/identity.ts";
import { Annex, ANNEX_TOOLS, linkBoth, syncUntilSame } from "./annex.ts";
import { makeNetwork, startRelay, type Topology } from "./network.ts";
import {
  addressAt,
  AUTH_SUCCESS,
  checksumOf,
  echo,
  FakeAnnex,
  listenerPort,
  makeRepository,
  randomBytes,
  silence,
} from "./pair.ts";
import { type Host, memoryOf, type Run, scenario, type Started, type TestEnv } from "./testenv.ts";
import { python } from "./tools.ts";

const needs = ["multicast"] as const;
const LAN = { GIT_ANNEX_P2P_IROH_LAN: "true" };

/** A repository that is served on `a`, found from `b` by nothing but its bare address. */
interface Neighbours {
  readonly a: Host;
  readonly b: Host;
  /** On the same network; nobody runs anything there. */
  readonly third: Host;
  readonly address: string;
  readonly fakeAnnex: FakeAnnex;
  readonly listener: Started;
  dial(options?: { stdin?: string | "open"; env?: Record<string, string> }): Promise<Started>;
}

async function makeNeighbours(
  env: TestEnv,
  topology: Topology = "lan",
  handle = echo,
): Promise<Neighbours> {
  const { a, b, relay: third } = await makeNetwork(env, topology);
  for (const host of [a, b]) Object.assign(host.env, LAN);
  const cwd = await makeRepository(env, a, "repository");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), handle);
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
  const listener = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], { on: a, cwd });
  await listener.says(/serving endpoint/);
  return {
    a,
    b,
    third,
    address,
    fakeAnnex,
    listener,
    dial: ({ stdin = "hello\n", env: more = {} } = {}) =>
      env.start(["git-annex-p2p-iroh", address], { on: b, stdin, env: more }),
  };
}

function assertEchoed({ code, stdout, stderr }: Run): void {
  assert.deepEqual([code, stdout, stderr], [0, `${AUTH_SUCCESS}hello\n`, ""]);
}

for (const topology of ["lan", "lan, IPv6"] as const) {
  scenario(`${topology}: a peer is found by its bare address alone`, { needs }, async (env) => {
    const { dial } = await makeNeighbours(env, topology);
    for (let i = 0; i < 3; i++) assertEchoed(await (await dial()).ended);
  });
}

scenario("lan: who has it off neither asks nor is announced", { needs }, async (env) => {
  const { a, b } = await makeNetwork(env, "lan");
  const ear = await listenToMulticast(env, b);
  const cwd = await makeRepository(env, a, "repository");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
  const off = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], { on: a, cwd });
  await off.says(/serving endpoint/);
  const run = await env.iroh([unknown()], { on: a, stdin: "" });
  assert.match(run.stderr, /no route to it is known/);
  assert.equal(ear.stdout, "ready\n");

  // The same with it on, so that the ear is known to hear.
  const on = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], {
    on: a,
    cwd,
    env: LAN,
  });
  await ear.says(/response from 10\.77\.0\.1/);
  const before = ear.stdout;
  await env.iroh([unknown()], { on: a, stdin: "", env: LAN });
  await ear.says(/query from 10\.77\.0\.1/);

  // And a goodbye at the end, after which nothing more comes.
  on.kill("SIGTERM");
  await on.ended;
  await ear.says(/goodbye from 10\.77\.0\.1/);
  assert(!before.includes("goodbye"));
  const count = ear.stdout.length;
  await env.iroh([unknown()], { on: b, stdin: "", env: LAN }); // asks, and nobody answers
  assert.doesNotMatch(ear.stdout.slice(count), /response/);
});

scenario("lan: an iroh program that asks who is there, and nothing else, is answered", {
  needs,
}, async (env) => {
  const { b } = await makeNeighbours(env);
  const ear = await listenToMulticast(env, b);
  const ask = () => env.ok(python("mdns_ask.py"), { on: b });
  for (let i = 0; i < 2; i++) {
    const heard = await hearsNext(env, ear, /query from 10\.77\.0\.2\n(response .*)\n/, ask);
    assert.match(heard, /\nresponse from 10\.77\.0\.1 10\.77\.0\.1\n$/);
  }
});

scenario("lan: what has changed of a network is announced without being asked", {
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { a, b, third, listener } = await makeNeighbours(env);
  const ear = await listenToMulticast(env, b);
  const moved = /response from 10\.77\.0\.11 .*\n/;
  const change = () => changeAddress(env, a, "10.77.0.1", "10.77.0.11");
  assert.match(await hearsNext(env, ear, moved, change), / 10\.77\.0\.11\n/);

  await hearsNext(env, ear, moved, async () => {
    await env.ok(["ip", "link", "set", "eth0", "down"], { on: a });
    await untilQuiet(env, ear); // so that it is seen
    await env.ok(["ip", "link", "set", "eth0", "up"], { on: a });
  });

  // Of two networks, each is told what holds there.
  const far = third.prefix.at(-1)!; // its namespace
  await env.ok(["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far1"], { on: a });
  await env.ok(["ip", "link", "set", "far1", "netns", far], { on: a });
  await env.ok(["ip", "addr", "add", "10.78.0.254/24", "dev", "far1"], { on: third });
  await env.ok(["ip", "link", "set", "far1", "up"], { on: third });
  const farEar = await listenToMulticast(env, third, "10.78.0.254");
  const second = await hearsNext(env, ear, moved, async () => {
    await env.ok(["ip", "addr", "add", "10.78.0.1/24", "dev", "eth1"], { on: a });
    await env.ok(["ip", "link", "set", "eth1", "up"], { on: a });
  });
  assert.equal(second, "response from 10.77.0.11 10.77.0.11\n");
  await farEar.says(/response/);
  await untilQuiet(env, farEar);
  listener.kill("SIGTERM");
  await farEar.says(/goodbye/);
  const lines = (ear: Started) => [...new Set(ear.stdout.trim().split("\n").slice(1))].sort();
  assert.deepEqual(lines(farEar), [
    "goodbye from 10.78.0.1",
    "response from 10.78.0.1 10.78.0.1",
  ]);
  assert.doesNotMatch(ear.stdout, /query|10\.78/);
});

scenario("lan, IPv6: a listener is announced, and takes its leave", { needs }, async (env) => {
  const { b, listener } = await makeNeighbours(env, "lan, IPv6");
  const ear = await listenToMulticast(env, b, "eth0");
  await ear.says(/response from [0-9a-f:]+\S* fd77::1\n/); // for what has changed is said twice
  assert.doesNotMatch(ear.stdout, /goodbye/);
  listener.kill("SIGTERM");
  assert.equal((await listener.ended).code, 0);
  await ear.says(/goodbye from [0-9a-f:]+/);
  await untilQuiet(env, ear);
  assert.match(ear.stdout, /goodbye.*\n$/); // nothing after it
});

scenario("lan: a network that comes up after the programs is used", { needs }, async (env) => {
  const { a, b, address, fakeAnnex, dial, listener } = await makeNeighbours(env);
  await env.ok(["ip", "link", "set", "eth0", "down"], { on: a });
  await env.ok(["ip", "link", "set", "eth0", "down"], { on: b });
  const down = await (await dial()).ended;
  assert.equal(down.code, 1);
  assert.match(down.stderr, /tried the local network \(no peer there has its key\)/);

  const waiting = await dial({ env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
  await waiting.says(/dialing/);
  await env.ok(["ip", "link", "set", "eth0", "up"], { on: a });
  await env.ok(["ip", "link", "set", "eth0", "up"], { on: b });
  assert.equal((await waiting.ended).stdout, `${AUTH_SUCCESS}hello\n`);
  assertEchoed(await (await dial()).ended);
  assert.equal(listener.code, undefined);

  // And after a listener that has never seen it.
  listener.kill("SIGTERM");
  await listener.ended;
  await env.ok(["ip", "link", "set", "eth0", "down"], { on: a });
  const later = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], {
    on: a,
    cwd: join(a.dir, "repository"),
    env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
  });
  await later.says(/serving endpoint/);
  await later.says(/local network, eth0 .* IPv4: send /); // which cannot be sent to
  await env.ok(["ip", "link", "set", "eth0", "up"], { on: a });
  assertEchoed(await (await dial()).ended);
  assert.equal(later.code, undefined);
});

scenario("lan: the dialing host changes its address in mid-session", {
  needs,
  limitMs: 90_000,
}, async (env) => {
  const { b, dial } = await makeNeighbours(env);
  const dialer = await dial({ stdin: "open" });
  await dialer.write("before\n");
  await dialer.says(/before/);
  await changeAddress(env, b, "10.77.0.2", "10.77.0.22");
  await dialer.write("after\n");
  await dialer.says(/after/);
  await dialer.end();
  assert.equal((await dialer.ended).code, 0);
});

scenario("lan: the serving host changes its address, and is found at the new one", {
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { a, dial } = await makeNeighbours(env, "lan", silence);
  const dialer = await dial({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  await changeAddress(env, a, "10.77.0.1", "10.77.0.11");
  const again = await dial({ stdin: "open", env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
  await again.says(/AUTH-SUCCESS/);
  assert.match(again.stderr, /direct 10\.77\.0\.11:/);
  await again.end();
  assert.equal((await again.ended).code, 0);
  // The session that was under way goes on, or is known to be lost within 30 s.
  await dialer.end();
  const { code, stderr } = await dialer.ended;
  if (code !== 0) assert.match(stderr, /the peer is lost in mid-stream/);
});

scenario("lan: liars cost no more than a packet that is not answered", {
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { a, address, dial } = await makeNeighbours(env);
  const port = await listenerPort(a, address);
  const liar = await env.start(python("mdns_liar.py", instanceOf(address), `${port}`), { on: a });
  await liar.says(/lying/);
  // Wrong ports, hosts that are not there, addresses that are not on this network: all for the very
  // key that is looked for, before and after the truth.
  for (let i = 0; i < 5; i++) {
    const started = performance.now();
    const dialer = await dial({ env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
    const { code, stdout, stderr } = await dialer.ended;
    assert.deepEqual([code, stdout], [0, `${AUTH_SUCCESS}hello\n`]);
    assert.match(stderr, /says it is at 10\.77\.0\.1:9,/); // it was lied to
    assert.doesNotMatch(stderr, /192\.0\.2\.1|127\.0\.0\.1|\b224\.\d+\.\d/); // but not to look elsewhere
    assert(performance.now() - started < 5_000, `${performance.now() - started} ms`);
  }
  assert.equal(liar.code, undefined);
});

scenario("lan: where a liar says that another endpoint has the key, the right one is reached", {
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { a, address, fakeAnnex, dial } = await makeNeighbours(env);
  const cwd = await makeRepository(env, a, "another");
  const otherAddress = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
  const another = await env.start(["git-annex-p2p-iroh", otherAddress, fakeAnnex.path], {
    on: a,
    cwd,
  });
  await another.says(/serving endpoint/);
  const wrong = `${await listenerPort(a, otherAddress)}`;
  const liar = await env.start(python("mdns_liar.py", instanceOf(address), "9", wrong), { on: a });
  await liar.says(/lying/);
  let apart = 0;
  // Sometimes the truth is faster: the test is of the other times.
  while (apart < 2) {
    const dialer = await dial({ env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
    const { code, stdout, stderr } = await dialer.ended;
    assert.deepEqual([code, stdout], [0, `${AUTH_SUCCESS}hello\n`]);
    if (/trying each route by itself/.test(stderr)) apart++;
  }
});

/** From how many addresses there are lies, how many each, and whether another endpoint answers at one. */
const CROWDS = [
  { senders: 40, lies: 1, answered: false },
  { senders: 40, lies: 8, answered: false },
  { senders: 40, lies: 1, answered: true },
  { senders: 60, lies: 8, answered: true },
];
for (const { senders, lies, answered } of CROWDS) {
  const name = `lan: ${lies} ${lies === 1 ? "lie" : "lies"} from each of ${senders} addresses` +
    `${answered ? ", with somebody at one of them," : ""} do not keep the truth out`;
  scenario(name, { needs, limitMs: 120_000 }, async (env) => {
    const { a, third, address, fakeAnnex, dial } = await makeNeighbours(env);
    const cwd = await makeRepository(env, a, "another");
    const otherAddress = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
    const another = await env.start(["git-annex-p2p-iroh", otherAddress, fakeAnnex.path], {
      on: a,
      cwd,
    });
    await another.says(/serving endpoint/);
    const wrong = answered ? `10.77.0.1:${await listenerPort(a, otherAddress)}` : "";
    const crowd = await lieFromMany(env, third, address, { senders, lies, wrong });
    // Sometimes the truth is faster: the test is of the other times.
    for (let lied = 0; lied < 4;) {
      const started = performance.now();
      const dialer = await dial({ env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
      const { code, stdout, stderr } = await dialer.ended;
      assert.deepEqual([code, stdout], [0, `${AUTH_SUCCESS}hello\n`]);
      assert(performance.now() - started < 10_000, `${performance.now() - started} ms`);
      const liars = new Set(stderr.match(/10\.77\.0\.[12]\d\d(?= says it is at)/g));
      if (liars.size > 32) lied++;
    }
    assert.equal(crowd.code, undefined);
  });
}

scenario("lan: a signal ends a dial at once", { needs }, async (env) => {
  const { b } = await makeNeighbours(env);
  const nobody = addressAt(unknown(), "10.77.0.99:9"); // is asked for as long as a dial takes
  const dialer = await env.start(["git-annex-p2p-iroh", nobody], {
    on: b,
    env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
  });
  await dialer.says(/dialing/);
  const since = performance.now();
  dialer.kill("SIGTERM");
  assert.equal((await dialer.ended).code, 143);
  assert(performance.now() - since < 4_000, "it waited for the network to answer");
});

scenario("lan: however many ways there are, a dialer finds the one place that is left", {
  needs: [...needs, "iroh-relay"],
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "lan");
  const { url } = await startRelay(env, relay);
  const settings = {
    GIT_ANNEX_P2P_IROH_LAN: "true",
    GIT_ANNEX_P2P_IROH_LOOKUP: "n0",
    GIT_ANNEX_P2P_IROH_RELAY: url,
    GIT_ANNEX_P2P_IROH_MAX_CONNECTIONS: "1",
  };
  for (const host of [a, b]) Object.assign(host.env, settings);
  const cwd = await makeRepository(env, a, "repository");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
  const listener = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], { on: a, cwd });
  await listener.says(/reachable through relay/);
  for (let i = 0; i < 5; i++) {
    const run = await env.iroh([address], { on: b, stdin: "hello\n" });
    assertEchoed(run);
    await env.until("the place to be free", () => fakeAnnex.open === 0);
  }
});

scenario("lan: ping says how the peer was found", { needs }, async (env) => {
  const { b, address } = await makeNeighbours(env);
  const run = await env.iroh(["ping", address, "-n", "1"], { on: b });
  assert.match(run.stdout, /found by the local network, path direct 10\.77\.0\.1:\d+; 1 of 1/);
});

scenario("lan: iroh programs that hold back when two have answered are heard nevertheless", {
  needs,
}, async (env) => {
  const { a, b, fakeAnnex } = await makeNeighbours(env);
  for (let i = 0; i < 3; i++) {
    const cwd = await makeRepository(env, a, `more-${i}`);
    const otherAddress = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
    const more = await env.start(["git-annex-p2p-iroh", otherAddress, fakeAnnex.path], {
      on: a,
      cwd,
    });
    await more.says(/serving endpoint/);
  }
  const wanted = unknown();
  const polite = await env.start(python("mdns_polite.py", instanceOf(wanted)), { on: a });
  await polite.says(/ready/);
  const run = await env.iroh([wanted], { on: b, env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
  assert.match(run.stderr, /says it is at 10\.77\.0\.1:9\n/);
});

scenario("lan: malformed, oversized and countless packets do no harm", {
  needs: [...needs, "proc"],
  limitMs: 120_000,
}, async (env) => {
  const { a, b, dial, listener } = await makeNeighbours(env);
  assertEchoed(await (await dial()).ended); // what a connection takes is not the flood's
  const memory = () => memoryOf(listener.pid);
  const before = await memory(), receivedBefore = await datagramsReceived(env, a);
  const flood = await env.start(python("mdns_flood.py"), { on: b });
  const dials = (async () => {
    for (let i = 0; i < 5; i++) assertEchoed(await (await dial()).ended);
  })();
  await flood.says(/half/);
  await dials;
  assert.equal((await flood.ended).code, 0);
  assertEchoed(await (await dial()).ended);
  const ear = await listenToMulticast(env, b);
  await env.ok(python("mdns_ask.py"), { on: b });
  await ear.says(/response from 10\.77\.0\.1 /); // it still hears, and answers
  assert.equal(listener.code, undefined);
  const received = await datagramsReceived(env, a) - receivedBefore;
  assert(received > 9_000, `${received} packets came`);
  const grown = await memory() - before;
  assert(grown < 30, `${grown} MiB more`);
});

scenario("lan: countless lies about the peer that is looked for do the dialer no harm", {
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { b, third } = await makeNeighbours(env);
  const wanted = unknown();
  const dialer = await env.start(["git-annex-p2p-iroh", wanted], {
    on: b,
    env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
  });
  await dialer.says(/dialing/);
  const before = await memoryOf(dialer.pid), receivedBefore = await datagramsReceived(env, b);
  // More than ten thousand, each another one, without end: it is asked again and again.
  const crowd = await lieFromMany(env, third, wanted, { senders: 120, lies: 200 });
  let most = 0;
  await env.until("the dialer to give up", async () => {
    most = Math.max(most, await memoryOf(dialer.pid).catch(() => 0)); // it has ended
    return dialer.code !== undefined;
  });
  const received = await datagramsReceived(env, b) - receivedBefore;
  const { code, stderr } = await dialer.ended;
  assert.equal(code, 1);
  assert.match(stderr, /trying each route by itself/);
  assert.match(stderr, /tried the local network \(no answer within/);
  assert(received > 10_000, `${received} packets came`);
  // Sockets for those that are tried at once, and iroh itself; not a socket for each lie.
  assert(most - before < 200, `${most - before} MiB more`);
  assert.equal(crowd.code, undefined);
});

scenario("lan: where there is no multicast the program says so, and goes on", {
  needs: ["namespaces", "iroh-relay", "iptables"],
}, async (env) => {
  const network = await makeNetwork(env, "relay only");
  const { a, b } = network;
  for (const host of [a, b]) {
    for (const [iptables, groups] of [["iptables", "224.0.0.0/4"], ["ip6tables", "ff00::/8"]]) {
      await env.ok([iptables!, "-A", "OUTPUT", "-d", groups!, "-j", "DROP"], { on: host });
    }
    Object.assign(host.env, LAN);
  }
  const relay = await startRelay(env, network.relay);
  const setting = { GIT_ANNEX_P2P_IROH_RELAY: relay.url, GIT_ANNEX_P2P_IROH_LOG: "debug" };
  const cwd = await makeRepository(env, a, "repository");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd, env: setting }))
    .split("\n")[0]!;
  const serve = ["git-annex-p2p-iroh", address, fakeAnnex.path];
  const listener = await env.start(serve, { on: a, cwd, env: setting });
  await listener.says(/reachable through relay/);
  await listener.says(/local network, eth0 \([^)]*\) IPv4: send /);
  const run = await env.iroh([address], { on: b, stdin: "hello\n", env: setting });
  assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}hello\n`]);
});

scenario("lan: git-annex syncs, and git fetches and pushes, by address alone", {
  needs: [...needs, ...ANNEX_TOOLS],
  limitMs: 240_000,
}, async (env) => {
  const network = await makeNetwork(env, "lan");
  const [a, b] = await Promise.all([network.a, network.b].map(async (host) => {
    Object.assign(host.env, LAN);
    const annex = await Annex.make(env, host);
    await annex.enable();
    await annex.serve();
    return annex;
  })) as [Annex, Annex];
  await linkBoth(a, b);
  const files = new Map<string, string>();
  for (const [annex, name] of [[a, "from-a"], [b, "from-b"]] as const) {
    const content = randomBytes(2_000_000);
    await annex.write(name, content);
    files.set(name, await checksumOf(content));
    await annex.add();
    await syncUntilSame(env, a, b, files);
  }
  // Plain git, as between neighbours whose central server is down.
  await a.gitOk(["commit", "-q", "--allow-empty", "-m", "pulled"]);
  const ofA = await a.gitOk(["rev-parse", "main"]);
  await env.until("git fetch to bring it", async () => {
    await b.git(["fetch", "-q", "a"]);
    return (await b.git(["rev-parse", "a/main"])).stdout === ofA;
  });
  await b.gitOk(["merge", "-q", "--ff-only", "a/main"]);
  await b.gitOk(["commit", "-q", "--allow-empty", "-m", "pushed"]);
  const ofB = await b.gitOk(["rev-parse", "main"]);
  await env.until("git push to bring it", async () => {
    await b.git(["push", "-q", "a", "main:refs/heads/from-b"]);
    return (await a.git(["rev-parse", "--quiet", "--verify", "from-b"])).stdout === ofB;
  });
});

function unknown(): string {
  return encodeTicket({ publicKey: newIdentity().publicKey, relays: [] });
}

/** The label of an endpoint in DNS: its key in base32, as in the ticket's own encoding. */
function instanceOf(address: string): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
  let bits = "";
  for (const byte of decodeTicket(address).publicKey) bits += byte.toString(2).padStart(8, "0");
  return bits.match(/.{1,5}/g)!.map((five) => alphabet[parseInt(five.padEnd(5, "0"), 2)]).join("");
}

/** Datagrams that programs on a host have been given, over IPv4. */
async function datagramsReceived(env: TestEnv, on: Host): Promise<number> {
  const counts = await env.ok(["grep", "^Udp: [0-9]", "/proc/net/snmp"], { on });
  return Number(counts.split(" ")[1]);
}

/** Starts to tell lies of an endpoint, from many addresses. */
async function lieFromMany(
  env: TestEnv,
  on: Host,
  address: string,
  { senders, lies, wrong = "" }: { senders: number; lies: number; wrong?: string },
): Promise<Started> {
  const aliases = Array.from({ length: senders }, (_, i) => `10.77.0.${100 + i}/24`);
  const add = aliases.map((alias) => `ip addr add ${alias} dev br0`).join(" && ");
  await env.ok(["sh", "-c", add], { on });
  const args = [instanceOf(address), `${senders}`, `${lies}`, wrong];
  const crowd = await env.start(python("mdns_crowd.py", ...args), { on });
  await crowd.says(/lying/);
  return crowd;
}

/** Lets the announcements pass that are made twice. */
async function untilQuiet(env: TestEnv, ear: Started): Promise<void> {
  let heard = "", since = performance.now();
  await env.until("silence", () => {
    if (ear.stdout !== heard) [heard, since] = [ear.stdout, performance.now()];
    return performance.now() - since > 2_500;
  });
}

/** What an ear hears next of what `pattern` says. */
async function hearsNext(
  env: TestEnv,
  ear: Started,
  pattern: RegExp,
  cause: () => Promise<unknown>,
) {
  await untilQuiet(env, ear);
  const before = ear.stdout.length;
  await cause();
  const fresh = () => pattern.exec(ear.stdout.slice(before))?.[0];
  await env.until(`${pattern}`, () => fresh() !== undefined);
  return fresh()!;
}

async function changeAddress(env: TestEnv, on: Host, from: string, to: string): Promise<void> {
  await env.ok(["ip", "addr", "del", `${from}/24`, "dev", "eth0"], { on }); // and the route with it
  await env.ok(["ip", "addr", "add", `${to}/24`, "dev", "eth0"], { on });
  await env.ok(["ip", "route", "add", "default", "via", "10.77.0.254"], { on });
}

async function listenToMulticast(env: TestEnv, on: Host, ...where: string[]): Promise<Started> {
  const ear = await env.start(python("mdns_ear.py", ...where), { on });
  await ear.says(/ready/);
  return ear;
}
