/** Peers behind routers that translate addresses reach each other. */

import assert from "node:assert/strict";
import { makeNetwork, startRelay } from "./network.ts";
import { AUTH_SUCCESS, checksumOf, randomBytes, sendByLane } from "./pair.ts";
import { listen } from "./relays.ts";
import {} from "./strangers.ts";
import { scenario } from "./testenv.ts";
import { deno } from "./tools.ts";

scenario("two NATs: a dialer reaches a peer through the relay", {
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

scenario("two NATs: peers get a direct path once each knows its public address", {
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
  waits: true,
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
  const data = randomBytes(20_000_000);
  const dialer = await env.start(["git-annex-p2p-iroh", address], {
    on: b,
    stdin: "open",
    env: { ...setting, GIT_ANNEX_P2P_IROH_LOG: "debug" },
  });
  assert.match(await sendByLane(dialer, data, "QUIC"), / 203\.0\.113\.1:\d+\n/);
  const run = await dialer.ended;
  assert.equal(run.code, 0);
  const back = run.stdoutBytes.subarray(AUTH_SUCCESS.length);
  assert.equal(await checksumOf(back), await checksumOf(data));
  const ping = await env.iroh(["ping", address, "-n", "10"], { on: b, env: setting });
  assert.match(ping.stdout, /found by relay .*, path direct 203\.0\.113\.1:\d+/);
});
