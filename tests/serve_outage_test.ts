/** A listener is reachable again after an outage of its relay, its network or git-annex. */

import assert from "node:assert/strict";
import { exchange } from "./lifecycle.ts";
import { echo, makePair } from "./pair.ts";
import { scenario } from "./testenv.ts";
import { python } from "./tools.ts";

scenario("serve: peers reach the listener again when its relay is back", {
  waits: true,
  needs: ["iroh-relay"],
  limitMs: 120_000,
}, async (env) => {
  const pair = await makePair(env, "relay", echo);
  await exchange(pair);
  await pair.relay!.stop();
  const down = await (await pair.connect({ stdin: "hello\n" })).ended;
  assert.equal(down.code, 1);
  assert.match(down.stderr, /cannot reach the peer; tried relay http/);
  await pair.relay!.start();
  await env.until("the peer to be reachable again", async () => {
    return (await (await pair.connect({ stdin: "hello\n" })).ended).code === 0;
  });
  await exchange(pair);
  assert.equal(pair.listener.code, undefined);
});

scenario("serve uses a relay that was down when it started", {
  needs: ["iroh-relay"],
  limitMs: 120_000,
}, async (env) => {
  const pair = await makePair(env, "relay", echo);
  await pair.relay!.stop();
  const second = await pair.listen();
  await pair.listener.ended;
  await second.says(/serving endpoint/);
  await pair.relay!.start();
  await second.says(/reachable through relay/);
  await exchange(pair);
});

scenario("direct: peers reach the listener again when its network is back", {
  waits: true,
  needs: ["namespaces"],
  limitMs: 120_000,
}, async (env) => {
  const pair = await makePair(env, "direct", echo);
  await exchange(pair);
  const on = pair.network.a;
  await env.ok(["ip", "link", "set", "eth0", "down"], { on });
  assert.equal((await (await pair.connect({ stdin: "hello\n" })).ended).code, 1);
  await env.ok(["ip", "link", "set", "eth0", "up"], { on });
  await env.until("the peer to be reachable again", async () => {
    return (await (await pair.connect({ stdin: "hello\n" })).ended).code === 0;
  });
  assert.equal(pair.listener.code, undefined);
});

scenario(
  "serve refuses peers while git-annex's queue is full, and then admits them again",
  { waits: true, limitMs: 90_000 },
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    // A socket with a full queue, in place of that of git-annex.
    const full = await env.start(python("full_socket.py", `${pair.fakeAnnex.path}-full`));
    await full.says(/full/);
    const real = `${pair.fakeAnnex.path}-real`;
    await Deno.rename(pair.fakeAnnex.path, real);
    await Deno.rename(`${pair.fakeAnnex.path}-full`, pair.fakeAnnex.path);
    const { code, stderr } = await (await pair.connect({ stdin: "" })).ended;
    assert.equal(code, 1);
    assert.match(stderr, /the peer ended the connection: too many connections \(code 1\)/);
    await Deno.rename(real, pair.fakeAnnex.path);
    await exchange(pair);
    assert.equal(pair.listener.code, undefined);
  },
);
