/** How a session ends, at either end and in either direction. */

import assert from "node:assert/strict";
import {
  AUTH_SUCCESS,
  AUTH_SUCCESS_BYTES,
  checksumOf,
  drain,
  makePair,
  randomBytes,
  readChecksum,
  ROUTES,
  toolsFor,
  writeAll,
} from "./pair.ts";
import { scenario } from "./testenv.ts";

/**
 * Less than iroh's close of an endpoint takes, the shortest of all waits at the end. A process that waits does so
 * each time. A busy machine takes as long only now and then.
 */
const WAIT_MS = 1_000;

for (const route of ROUTES) {
  const needs = toolsFor(route);

  scenario(`${route}: the end of one direction leaves the other open`, { needs }, async (env) => {
    const pair = await makePair(env, route, async (connection) => {
      // Sends its answer only after the end of what the peer sends.
      const { length } = await readChecksum(connection);
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      await writeAll(connection, new TextEncoder().encode(`${length} bytes came\n`));
    });
    const run = await (await pair.connect({ stdin: randomBytes(100_000) })).ended;
    assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}100000 bytes came\n`]);
  });

  scenario(`${route}: the end of what the peer sends reaches stdout while stdin stays open`, {
    needs,
  }, async (env) => {
    const came = Promise.withResolvers<{ length: number }>();
    const pair = await makePair(env, route, async (connection) => {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      await connection.closeWrite();
      came.resolve(await readChecksum(connection));
    });
    const dialer = await pair.connect({ stdin: "open", collect: false });
    assert.equal((await drain(dialer)).length, AUTH_SUCCESS_BYTES.length);
    assert.equal(dialer.code, undefined);
    await dialer.write(randomBytes(100_000));
    await dialer.end();
    assert.equal((await came.promise).length, 100_000);
    assert.equal((await dialer.ended).code, 0);
  });

  scenario(`${route}: the end of what the peer sends reaches stdout while the peer does not read`, {
    needs,
  }, async (env) => {
    // More than git-annex's socket holds, so that the listener cannot deliver all of it.
    const given = randomBytes(1_000_000), came = Promise.withResolvers<string>();
    const mayEnd = Promise.withResolvers<void>(), mayRead = Promise.withResolvers<void>();
    const pair = await makePair(env, route, async (connection) => {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      await mayEnd.promise;
      await connection.closeWrite();
      await mayRead.promise;
      came.resolve((await readChecksum(connection)).checksum);
    });
    const dialer = await pair.connect({
      stdin: given,
      collect: false,
      env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
    });
    await dialer.says(/all of stdin has been read/);
    mayEnd.resolve();
    assert.equal((await drain(dialer)).length, AUTH_SUCCESS_BYTES.length);
    assert.equal(dialer.code, undefined);
    mayRead.resolve();
    assert.equal(await came.promise, await checksumOf(given));
    assert.equal((await dialer.ended).code, 0);
  });

  scenario(`${route}: connect exits 0 soon after the peer has closed, although stdin is open`, {
    needs,
  }, async (env) => {
    const data = randomBytes(3_000_000);
    const pair = await makePair(env, route, async (connection) => {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      await writeAll(connection, data);
      connection.close();
    });
    const times: number[] = [];
    while (times.every((time) => time >= WAIT_MS) && times.length < 5) {
      const dialer = await pair.connect({ stdin: "open" });
      await env.until(
        "all to be there",
        () => dialer.stdout.length === AUTH_SUCCESS_BYTES.length + data.length,
      );
      const all = performance.now();
      const { code, stdoutBytes } = await dialer.ended;
      times.push(performance.now() - all);
      assert.equal(code, 0);
      assert.equal(
        await checksumOf(stdoutBytes.subarray(AUTH_SUCCESS_BYTES.length)),
        await checksumOf(data),
      );
    }
    assert(Math.min(...times) < WAIT_MS, `${times} ms`);
  });

  scenario(`${route}: the peer gets what git-annex wrote before it closed with input unread`, {
    needs,
  }, async (env) => {
    const data = randomBytes(1_000_000);
    const pair = await makePair(env, route, async (connection) => {
      await connection.read(new Uint8Array(1)); // leaves the rest unread
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      await writeAll(connection, data);
      connection.close();
    });
    const dialer = await pair.connect({ stdin: "open" });
    await dialer.write(randomBytes(50_000));
    const { code, stdoutBytes } = await dialer.ended;
    assert.equal(code, 0);
    assert.equal(
      await checksumOf(stdoutBytes.subarray(AUTH_SUCCESS_BYTES.length)),
      await checksumOf(data),
    );
  });

  scenario(
    `${route}: connect exits 0 when the reader of its stdout closes it`,
    { needs },
    async (env) => {
      const pair = await makePair(env, route, async (connection) => {
        await writeAll(connection, AUTH_SUCCESS_BYTES);
        const chunk = new Uint8Array(64 * 1024);
        for (;;) await writeAll(connection, chunk);
      });
      const command =
        `git-annex-p2p-iroh ${pair.dialed} </dev/null | head -c 100000 | wc -c; exit \${PIPESTATUS[0]}`;
      const run = await env.run(["bash", "-c", command], {
        on: pair.network.b,
        env: pair.relay ? { GIT_ANNEX_P2P_IROH_RELAY: pair.relay.url } : {},
      });
      assert.deepEqual([run.code, run.stdout.trim(), run.stderr], [0, "100000", ""]);
      await env.until("git-annex's side to be closed", () => pair.fakeAnnex.open === 0);
    },
  );
}
