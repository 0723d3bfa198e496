/** The connecting process notices in time that a peer cannot be reached, or is lost. */

import assert from "node:assert/strict";
import { echo, logged, makePair, silence } from "./pair.ts";
import { assertOneLine, scenario } from "./testenv.ts";

scenario(
  "connect gives up 8 s after this host is online, and says what it tried",
  { waits: true, needs: ["namespaces"] },
  async (env) => {
    const pair = await makePair(env, "direct", echo);
    // The address is on the network, but no host answers.
    await env.ok(["sh", "-c", "ip link set eth0 down"], { on: pair.network.a });
    const started = performance.now();
    const run = await (await pair.connect({ stdin: "" })).ended;
    const seconds = (performance.now() - started) / 1000;
    assert(seconds < 12, `${seconds} s`); // 8 s, and the start of the process
    assert.equal(run.code, 1);
    assertOneLine(run.stderr);
    assert.match(
      run.stderr,
      /cannot reach the peer; tried 10\.77\.0\.1:\d+ \(no answer within 8 s\); is git annex remotedaemon running there/,
    );
  },
);

scenario("connect notices within 30 s that the peer is lost", {
  waits: true,
  needs: ["namespaces"],
  limitMs: 90_000,
}, async (env) => {
  const pair = await makePair(env, "direct", silence);
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  await env.ok(["sh", "-c", "ip link set eth0 down"], { on: pair.network.a });
  const started = performance.now();
  const { code, stderr } = await dialer.ended;
  const seconds = (performance.now() - started) / 1000;
  assert(seconds < 30, `${seconds} s`);
  assert.equal(code, 1);
  assertOneLine(stderr);
  assert.match(stderr, /the peer is lost in mid-stream, /);
  // The listener notices, too. It keeps the session for 30 s, in which the dialer may come back.
  await env.until("git-annex's side to be closed", () => pair.fakeAnnex.open === 0);
  assert((performance.now() - started) / 1000 < 50);
  await logged(env, pair, /was lost/);
});

scenario("connect notices through a relay that the listener was killed", {
  waits: true,
  needs: ["iroh-relay"],
  limitMs: 90_000,
}, async (env) => {
  const pair = await makePair(env, "relay", silence);
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  pair.listener.kill("SIGKILL");
  const started = performance.now();
  const { code, stderr } = await dialer.ended;
  const seconds = (performance.now() - started) / 1000;
  assert(seconds < 30, `${seconds} s`);
  assert.equal(code, 1);
  assertOneLine(stderr);
  assert.match(stderr, /the peer is lost in mid-stream, /);
});
