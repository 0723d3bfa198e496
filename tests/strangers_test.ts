/** A listener ends connections of strangers in time, and keeps room for peers that authenticate. */

import assert from "node:assert/strict";
import type { Connection } from "../lib/iroh/connection.ts";
import { sendHandshake } from "../lib/protocol/dumbpipe.ts";
import { MUX_ALPN, StreamType } from "../lib/protocol/mux.ts";
import { echo, logged, makePair, type Pair } from "./pair.ts";
import { dial, friend, send } from "./strangers.ts";
import { type Run, scenario } from "./testenv.ts";

function exchange(pair: Pair): Promise<Run> {
  return pair.connect({ stdin: "hello\n" }).then(({ ended }) => ended);
}

scenario("serve ends connections without a handshake, and disturbs no other session", {
  waits: true,
  limitMs: 90_000,
}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const { works } = await friend(pair);

  const wrong = await dial(env, pair);
  await send(await wrong.open(), "GET / HTTP/1.1\r\n");
  assert.deepEqual(await wrong.closed, { by: "peer", code: 4n, reason: "no hello" });
  await works();

  const short = await dial(env, pair);
  const stream = await short.open();
  await send(stream, "hel");
  await stream.writable.close().catch(() => {}); // the listener may close first
  assert.deepEqual(await short.closed, { by: "peer", code: 4n, reason: "no hello" });
  await works();

  const started = performance.now();
  const silent = await dial(env, pair); // opens no stream
  const halting = await dial(env, pair); // begins the handshake
  await send(await halting.open(), "hel");
  const ends = await Promise.all([silent.closed, halting.closed]);
  for (const end of ends) assert.deepEqual(end, { by: "peer", code: 4n, reason: "no hello" });
  const seconds = (performance.now() - started) / 1000;
  assert(seconds > 9 && seconds < 15, `${seconds} s`);
  await works();

  const gone = await dial(env, pair);
  const half = await gone.open();
  await sendHandshake(half);
  await half.writable.abort(); // a reset in mid-stream
  gone.close(7n, "never mind");
  await works();

  assert.equal((await exchange(pair)).code, 0);
  await logged(env, pair, /was turned away, not a hello/);
  await logged(env, pair, /was turned away, no hello in time/);
});

scenario("serve ends silent connections on the mux protocol, and disturbs no other session", {
  waits: true,
  limitMs: 90_000,
}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const { works } = await friend(pair);
  const started = performance.now();
  const silent = await dial(env, pair, MUX_ALPN); // opens no stream
  const halting = await dial(env, pair, MUX_ALPN); // begins a stream header
  await send(await halting.open(), String.fromCharCode(StreamType.SESSION, 0, 0));
  const ends = await Promise.all([silent.closed, halting.closed]);
  for (const end of ends) assert.deepEqual(end, { by: "peer", code: 4n, reason: "no hello" });
  const seconds = (performance.now() - started) / 1000;
  assert(seconds > 9 && seconds < 15, `${seconds} s`);
  await works();
  assert.equal(pair.fakeAnnex.total, 1); // the listener has not asked git-annex
  assert.equal((await exchange(pair)).code, 0);
});

scenario("serve keeps room for peers that authenticate, however many strangers connect", {
  limitMs: 120_000,
}, async (env) => {
  const settings = { GIT_ANNEX_P2P_IROH_MAX_CONNECTIONS: "5" };
  // Like git-annex, silent until a peer sends a token.
  const pair = await makePair(env, "loopback", async (connection) => {
    const first = new Uint8Array(100);
    if (await connection.read(first) === null) return;
    await echo(connection);
  }, settings);
  const good = await pair.connect({ stdin: "open" });
  await good.write("AUTH\n");
  await good.says(/AUTH-SUCCESS/);

  const strangers: Connection[] = [];
  for (let i = 0; i < 12; i++) {
    const stranger = await dial(env, pair);
    await sendHandshake(await stranger.open());
    strangers.push(stranger);
  }
  // Of twelve strangers the four newest have the four permits that are left.
  const ended = await Promise.all(strangers.slice(0, 8).map(({ closed }) => closed));
  for (const end of ended) {
    assert.deepEqual(end, { by: "peer", code: 1n, reason: "too many connections" });
  }
  await env.until("the last four to be served", () => pair.fakeAnnex.open === 5);

  const friends = await Promise.all([1, 2, 3, 4].map(async (i) => {
    const friend = await pair.connect({ stdin: "open" });
    await friend.write(`AUTH\n`);
    await friend.says(/AUTH-SUCCESS/);
    await friend.write(`friend ${i}\n`);
    await friend.says(new RegExp(`friend ${i}`));
    return friend;
  }));
  // Five peers have authenticated, so the listener refuses a sixth.
  const sixth = await pair.connect({ stdin: "AUTH\n" });
  const { code, stderr } = await sixth.ended;
  assert.equal(code, 1);
  assert.match(
    stderr,
    /cannot reach the peer; tried .* \(the peer takes no more connections now\)/,
  );
  for (const one of [good, ...friends]) {
    await one.end();
    assert.equal((await one.ended).code, 0);
  }
  assert.equal((await (await pair.connect({ stdin: "AUTH\n" })).ended).code, 0);
});
