/** Of all routes to a peer, one that works is used; if none works, the error names each. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { makeNetwork, startRelay } from "./network.ts";
import {
  addressAt,
  AUTH_SUCCESS,
  echo,
  FakeAnnex,
  listenerPort,
  makePair,
  makeRepository,
} from "./pair.ts";
import { listen } from "./relays.ts";
import { scenario } from "./testenv.ts";

scenario("if all UDP is blocked, the relay carries the session", {
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

scenario("a stale address at which another endpoint answers keeps no dialer from its peer", {
  needs: ["iroh-relay", "namespaces"],
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "lan");
  const { url } = await startRelay(env, relay);
  const { listener, address } = await listen(env, a, url);
  await listener.says(/reachable through relay/);
  // The endpoint that answers at the address, and sooner than the relay, has another key.
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
  // Dials in which the relay was faster do not count.
  for (let answered = false; !answered;) {
    const run = await env.iroh([outOfDate], options);
    assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}hello\n`]);
    answered = /what answers there does not have its key/.test(run.stderr);
  }
});

scenario("if no route reaches the peer, the error names each route and why it failed", {
  waits: true,
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
