/** On a local network without relay, DNS and a route to elsewhere, peers find each other. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { assertEchoed, instanceOf, LAN, LAN_TOOLS, makeNeighbours } from "./lan.ts";
import { makeNetwork, startRelay } from "./network.ts";
import {
  addressAt,
  AUTH_SUCCESS,
  echo,
  FakeAnnex,
  makeRepository,
  unknownAddress,
} from "./pair.ts";
import { scenario } from "./testenv.ts";
import { python } from "./tools.ts";

const needs = LAN_TOOLS;

for (const topology of ["lan", "lan, IPv6"] as const) {
  scenario(`${topology}: a dialer finds a peer by its bare address`, { needs }, async (env) => {
    const { dial } = await makeNeighbours(env, topology);
    for (let i = 0; i < 3; i++) assertEchoed(await (await dial()).ended);
  });
}

scenario("lan: a signal ends a dial at once", { needs }, async (env) => {
  const { b } = await makeNeighbours(env);
  // The dialer waits for an answer of this host for as long as a dial takes.
  const nobody = addressAt(unknownAddress(), "10.77.0.99:9");
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

scenario("lan: a dialer that tries all routes at once needs only one permit", {
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
  for (let i = 1; i <= 5; i++) {
    const run = await env.iroh([address], { on: b, stdin: "hello\n" });
    assertEchoed(run);
    const served = () => listener.stderr.match(/was served after/g)?.length;
    await env.until("the permit to be free", () => served() === i);
  }
});

scenario("lan: ping says that it found the peer on the local network", { needs }, async (env) => {
  const { b, address } = await makeNeighbours(env);
  const run = await env.iroh(["ping", address, "-n", "1"], { on: b });
  assert.match(run.stdout, /found by the local network, path direct 10\.77\.0\.1:\d+; 1 of 1/);
});

scenario("lan: a dialer hears iroh programs that are silent once two others have answered", {
  waits: true,
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
  const wanted = unknownAddress();
  const polite = await env.start(python("mdns_polite.py", instanceOf(wanted)), { on: a });
  await polite.says(/ready/);
  const run = await env.iroh([wanted], { on: b, env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
  assert.match(run.stderr, /says it is at 10\.77\.0\.1:9\n/);
});

scenario("lan: if multicast is blocked, the program logs it and uses the relay", {
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
