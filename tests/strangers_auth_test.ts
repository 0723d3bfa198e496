/** A listener ends connections that git-annex has not admitted within 30 s. */

import assert from "node:assert/strict";
import { sendHandshake } from "../lib/protocol/dumbpipe.ts";
import { AUTH_SUCCESS, echo, logged, makePair, writeAll } from "./pair.ts";
import { dial, send } from "./strangers.ts";
import { scenario } from "./testenv.ts";

const text = new TextEncoder();

scenario(
  "serve ends a connection on dumbpipe's protocol that git-annex has not admitted after 30 s",
  {
    waits: true,
    limitMs: 90_000,
  },
  async (env) => {
    // Like git-annex, admits a peer that sends a token first.
    const pair = await makePair(env, "loopback", async (connection) => {
      const first = new Uint8Array(100);
      if (await connection.read(first) === null) return;
      if (new TextDecoder().decode(first).startsWith("AUTH good")) return await echo(connection);
      await writeAll(connection, text.encode("AUTH-FAILURE\n"));
      while (await connection.read(first) !== null);
    });
    const good = await pair.connect({ stdin: "open" });
    await good.write("AUTH good\n");
    await good.says(/AUTH-SUCCESS/);
    const started = performance.now();
    const silent = await dial(env, pair); // sends the handshake, and then nothing
    await sendHandshake(await silent.open());
    const bad = await dial(env, pair);
    const stream = await bad.open();
    await sendHandshake(stream);
    await send(stream, "AUTH wrong\n");
    const reader = stream.readable.getReader();
    assert.equal(new TextDecoder().decode((await reader.read()).value), "AUTH-FAILURE\n");
    const ends = await Promise.all([silent.closed, bad.closed]);
    const notAuthenticated = { by: "peer", code: 5n, reason: "not authenticated in time" };
    for (const end of ends) assert.deepEqual(end, notAuthenticated);
    const seconds = (performance.now() - started) / 1000;
    assert(seconds > 29 && seconds < 35, `${seconds} s`);
    await env.until("git-annex's sides to be closed", () => pair.fakeAnnex.open === 1);
    await good.write("still there\n");
    await good.says(/still there/);
    await good.end();
    assert.equal((await good.ended).code, 0);
  },
);

scenario("serve ends a session that git-annex has not admitted after 30 s, and no other", {
  waits: true,
  limitMs: 90_000,
}, async (env) => {
  // Like git-annex, admits a peer that sends a token; the others may go on sending.
  const pair = await makePair(env, "loopback", async (connection) => {
    const first = new Uint8Array(100);
    const length = await connection.read(first);
    const good = new TextDecoder().decode(first.subarray(0, length ?? 0)).startsWith("AUTH good");
    await writeAll(connection, text.encode(good ? AUTH_SUCCESS : "AUTH-FAILURE\n"));
    while (await connection.read(first) !== null) {
      if (good) await writeAll(connection, first.subarray(0, 1));
    }
  });
  const good = await pair.connect({ stdin: "open" });
  await good.write("AUTH good\n");
  await good.says(/AUTH-SUCCESS/);
  const started = performance.now();
  const bad = await pair.connect({ stdin: "open" });
  await bad.write("AUTH wrong\n");
  await bad.says(/AUTH-FAILURE/);
  const { code, stderr } = await bad.ended;
  const seconds = (performance.now() - started) / 1000;
  assert(seconds > 29 && seconds < 35, `${seconds} s`);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^git-annex-p2p-iroh: the peer ended the connection: not authenticated in time \(code 5\); .*\n$/,
  );
  assert.equal(good.code, undefined);
  await good.end();
  assert.equal((await good.ended).code, 0);
  await logged(env, pair, /was turned away, it did not authenticate within 30 s/);
});
