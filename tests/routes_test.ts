/** The ways to a peer beyond the local network, and what is said when none leads there. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { makeNetwork, startRelay } from "./network.ts";
import {
  addressAt,
  AUTH_SUCCESS,
  checksumOf,
  echo,
  FakeAnnex,
  listenerPort,
  makePair,
  makeRepository,
  randomBytes,
} from "./pair.ts";
import { type Host, scenario, type Started, type TestEnv } from "./testenv.ts";
import { deno } from "./tools.ts";

/** A listener on `a` whose home relays are `relays`; gives its address. */
async function listen(
  env: TestEnv,
  a: Parameters<typeof makeRepository>[1],
  relays: string,
): Promise<{ address: string; listener: Started }> {
  const cwd = await makeRepository(env, a, "repository");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  const setting = { GIT_ANNEX_P2P_IROH_RELAY: relays };
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd, env: setting }))
    .trim();
  const serve = ["git-annex-p2p-iroh", address, fakeAnnex.path];
  const listener = await env.start(serve, { on: a, cwd, env: setting });
  await listener.says(/serving endpoint/);
  return { address, listener };
}

/** Waits until a peer is reached by whoever has these relays set. */
async function reachedWith(
  env: TestEnv,
  relays: string,
  { on, address }: { on: Host; address: string },
): Promise<void> {
  await env.until(`the peer to be reached through ${relays}`, async () => {
    const options = { on, stdin: "hello\n", env: { GIT_ANNEX_P2P_IROH_RELAY: relays } };
    const { code, stdout } = await env.iroh([address], options);
    return code === 0 && stdout === `${AUTH_SUCCESS}hello\n`;
  });
}

scenario("two NATs: a peer is reached through the relay", {
  needs: ["iroh-relay", "iptables", "namespaces"],
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "nat");
  const { url } = await startRelay(env, relay);
  const { address, listener } = await listen(env, a, url);
  await listener.says(/reachable through relay/);
  const setting = { GIT_ANNEX_P2P_IROH_RELAY: url };
  const run = await env.iroh([address], { on: b, stdin: "hello\n", env: setting });
  assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}hello\n`]);
  const ping = await env.iroh(["ping", address, "-n", "1"], { on: b, env: setting });
  assert.match(ping.stdout, /found by relay http:\/\/203\.0\.113\.254:\d+\/, path relay http/);
});

scenario("two NATs: a direct path comes about once each side knows its public address", {
  needs: ["iroh-relay", "iptables", "namespaces"],
  limitMs: 90_000,
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "nat");
  const { url } = await startRelay(env, relay);
  const reflector = await env.start(deno("nat_peer.ts", "reflect"), { on: relay });
  const [key, port] = (await reflector.says(/^[0-9a-f]{64} \d+/)).split(" ");
  const seen = `${key}@${relay.ip}:${port}`;
  const server = await env.start(deno("nat_peer.ts", "serve", url, seen), { on: a });
  const serverKey = await server.says(/^[0-9a-f]{64}/);
  const dial = deno("nat_peer.ts", "dial", url, seen, serverKey);
  const dialer = await (await env.start(dial, { on: b })).ended;
  const [first, last] = dialer.stdout.trim().split("\n");
  assert.match(first!, /^relay http/);
  assert.match(last!, /^direct 203\.0\.113\.1:\d+$/);
});

scenario("two NATs: with the setting external, peers meet directly, and over a lane", {
  needs: ["iroh-relay", "iptables", "namespaces"],
  limitMs: 90_000,
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "nat");
  a.env.GIT_ANNEX_P2P_IROH_EXTERNAL = "203.0.113.1";
  b.env.GIT_ANNEX_P2P_IROH_EXTERNAL = "203.0.113.2";
  const { url } = await startRelay(env, relay);
  const { address, listener } = await listen(env, a, url);
  await listener.says(/reachable through relay/);
  const setting = { GIT_ANNEX_P2P_IROH_RELAY: url };
  const data = randomBytes(10_000_000);
  const run = await env.iroh([address], {
    on: b,
    stdin: data,
    env: { ...setting, GIT_ANNEX_P2P_IROH_LOG: "debug" },
  });
  assert.equal(run.code, 0);
  assert.match(run.stderr, /lane: QUIC with 203\.0\.113\.1:\d+\n/);
  const back = run.stdoutBytes.subarray(AUTH_SUCCESS.length);
  assert.equal(await checksumOf(back), await checksumOf(data));
  const ping = await env.iroh(["ping", address, "-n", "10"], { on: b, env: setting });
  assert.match(ping.stdout, /found by relay .*, path direct 203\.0\.113\.1:\d+/);
});

scenario("where nothing but the relay gets through, it does", {
  needs: ["iroh-relay", "iptables", "namespaces"],
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "lan");
  const { url } = await startRelay(env, relay);
  for (const host of [a, b]) {
    for (const chain of ["INPUT", "OUTPUT"]) {
      const rule = ["-A", chain, "-o", "eth0", "-p", "udp", "-j", "DROP"];
      if (chain === "INPUT") rule[2] = "-i";
      await env.ok(["iptables", ...rule], { on: host });
    }
    host.env.GIT_ANNEX_P2P_IROH_LAN = "true";
  }
  const { address, listener } = await listen(env, a, url);
  await listener.says(/reachable through relay/);
  const setting = { GIT_ANNEX_P2P_IROH_RELAY: url };
  const run = await env.iroh([address], { on: b, stdin: "hello\n", env: setting });
  assert.deepEqual([run.code, run.stdout, run.stderr], [0, `${AUTH_SUCCESS}hello\n`, ""]);
});

scenario("an address that is out of date, and where another answers, does not stand in the way", {
  needs: ["iroh-relay", "namespaces"],
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "lan");
  const { url } = await startRelay(env, relay);
  const { listener, address } = await listen(env, a, url);
  await listener.says(/reachable through relay/);
  // What answers at the address, and sooner than the relay, has another key.
  const cwd = await makeRepository(env, relay, "another");
  const fakeAnnex = new FakeAnnex(env, join(relay.dir, "socket"), echo);
  const otherAddress = (await env.ok(["git-annex-p2p-iroh", "address"], { on: relay, cwd })).trim();
  const another = await env.start(["git-annex-p2p-iroh", otherAddress, fakeAnnex.path], {
    on: relay,
    cwd,
  });
  await another.says(/serving endpoint/);
  const outOfDate = addressAt(address, `${relay.ip}:${await listenerPort(relay, otherAddress)}`);
  const options = {
    on: b,
    stdin: "hello\n",
    env: { GIT_ANNEX_P2P_IROH_RELAY: url, GIT_ANNEX_P2P_IROH_LOG: "debug" },
  };
  // Sometimes the relay is faster: the test is of the other times.
  for (let answered = false; !answered;) {
    const run = await env.iroh([outOfDate], options);
    assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}hello\n`]);
    answered = /what answers there does not have its key/.test(run.stderr);
  }
});

scenario("of several relays, the one in the address is used as soon as it is back", {
  needs: ["iroh-relay", "namespaces"],
  limitMs: 45_000, // iroh itself takes 50 s and more, if it comes back at all
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "relay only");
  const first = await startRelay(env, relay), second = await startRelay(env, relay);
  const both = `${first.url} ${second.url}`;
  await first.stop();
  const { address, listener } = await listen(env, a, both);
  await listener.says(new RegExp(`reachable through relay ${second.url}`));
  const early = await env.start(["git-annex-p2p-iroh", address], {
    on: b,
    stdin: "open",
    env: { GIT_ANNEX_P2P_IROH_RELAY: both, GIT_ANNEX_P2P_IROH_LOG: "debug" },
  });
  await early.write("early\n");
  await early.says(/early\n/);
  assert.match(early.stderr, new RegExp(`connected, found by relay ${second.url}`));
  await first.start();
  await listener.says(new RegExp(`reachable through relay ${first.url}`));
  await reachedWith(env, first.url, { on: b, address });
  // What has come about by the other relay goes on.
  await early.write("late\n");
  await early.says(/late\n/);
  await early.end();
  assert.equal((await early.ended).code, 0);
});

scenario("of several relays, another one is used while the one in the address is away", {
  needs: ["iroh-relay", "namespaces"],
  limitMs: 90_000,
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "relay only");
  const first = await startRelay(env, relay), second = await startRelay(env, relay);
  const both = `${first.url} ${second.url}`;
  const { address, listener } = await listen(env, a, both);
  await listener.says(new RegExp(`reachable through relay ${first.url}`));
  assert.doesNotMatch(listener.stderr, new RegExp(second.url));
  await first.stop();
  await listener.says(new RegExp(`reachable through relay ${second.url}`));
  await reachedWith(env, both, { on: b, address });
  await first.start();
  await reachedWith(env, first.url, { on: b, address });
});

scenario("when nobody answers, each way is named, and what came of it", {
  needs: ["iroh-relay", "namespaces"],
}, async (env) => {
  const pair = await makePair(env, "relay", echo);
  pair.listener.kill("SIGKILL");
  await pair.listener.ended;
  const other = await startRelay(env, pair.network.relay);
  const run = await (await pair.connect({
    stdin: "",
    env: {
      GIT_ANNEX_P2P_IROH_RELAY: other.url,
      GIT_ANNEX_P2P_IROH_LAN: "true",
      GIT_ANNEX_P2P_IROH_LOOKUP: "n0",
    },
  })).ended;
  assert.equal(run.code, 1);
  const ways = [
    `relay ${pair.relay!.url} \\([^)]+\\)`,
    `relay ${other.url} \\([^)]+\\)`,
    "the look-up at iroh's DNS \\([^)]+\\)",
    "the local network \\(no peer there has its key\\)",
  ];
  const expected = `^git-annex-p2p-iroh: cannot reach the peer; tried ${ways.join(", ")}; ` +
    "is git annex remotedaemon running there, and is it online\\?\\n$";
  assert.match(run.stderr, new RegExp(expected));
});
