/** Peers find each other again when a host changes its network or address. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { assertEchoed, changeAddress, LAN_TOOLS, makeNeighbours } from "./lan.ts";
import { AUTH_SUCCESS, silence } from "./pair.ts";
import { scenario } from "./testenv.ts";

const needs = LAN_TOOLS;

scenario("lan: programs use a network that comes up after they started", { needs }, async (env) => {
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

  // The same for a listener that has never seen the network.
  listener.kill("SIGTERM");
  await listener.ended;
  await env.ok(["ip", "link", "set", "eth0", "down"], { on: a });
  const later = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], {
    on: a,
    cwd: join(a.dir, "repository"),
    env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
  });
  await later.says(/serving endpoint/);
  await later.says(/local network, eth0 .* IPv4: send /);
  await env.ok(["ip", "link", "set", "eth0", "up"], { on: a });
  assertEchoed(await (await dial()).ended);
  assert.equal(later.code, undefined);
});

scenario("lan: a session survives that the dialing host changes its address", {
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

scenario("lan: if the serving host changes its address, dialers find it at the new one", {
  waits: true,
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { a, dial } = await makeNeighbours(env, "lan", silence);
  const dialer = await dial({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  await changeAddress(env, a, "10.77.0.1", "10.77.0.11");
  const again = await dial({ stdin: "open", env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
  await again.says(/AUTH-SUCCESS/);
  await again.says(/direct 10\.77\.0\.11:/);
  await again.end();
  assert.equal((await again.ended).code, 0);
  // The session from before continues, or its dialer notices within 30 s that it is lost.
  await dialer.end();
  const { code, stderr } = await dialer.ended;
  if (code !== 0) assert.match(stderr, /the peer is lost in mid-stream/);
});
