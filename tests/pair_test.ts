/** Two processes of the program exchange bytes, directly and through a relay. */

import assert from "node:assert/strict";
import {
  AUTH_SUCCESS,
  AUTH_SUCCESS_BYTES,
  checksumOf,
  echo,
  makePair,
  randomBytes,
  readChecksum,
  ROUTES,
  toolsFor,
  writeAll,
} from "./pair.ts";
import { scenario } from "./testenv.ts";

for (const route of ROUTES) {
  const needs = toolsFor(route);

  scenario(`${route}: bytes pass in both directions, and connect exits 0 when both have ended`, {
    needs,
  }, async (env) => {
    const pair = await makePair(env, route, echo);
    const run = await (await pair.connect({ stdin: "hello\n" })).ended;
    assert.deepEqual([run.code, run.stdout, run.stderr], [0, `${AUTH_SUCCESS}hello\n`, ""]);
    await env.until("the log to tell of it", async () => /was served after/.test(await pair.log()));
  });

  scenario(`${route}: 50 MB each way at once`, { needs, limitMs: 180_000 }, async (env) => {
    const there = randomBytes(50_000_000), back = randomBytes(50_000_000);
    let arrived: Promise<{ length: number; checksum: string }> | undefined;
    const pair = await makePair(env, route, async (connection) => {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      arrived = readChecksum(connection);
      await writeAll(connection, back);
      await connection.closeWrite();
      await arrived;
    });
    const run = await (await pair.connect({ stdin: there })).ended;
    assert.equal(run.code, 0);
    const got = run.stdoutBytes.subarray(AUTH_SUCCESS.length);
    assert.equal(got.length, back.length);
    assert.equal(await checksumOf(got), await checksumOf(back));
    assert.deepEqual(await arrived, { length: there.length, checksum: await checksumOf(there) });
  });

  scenario(
    `${route}: 100 connections at once`,
    { needs, limitMs: 180_000, takesTurns: true },
    async (env) => {
      const pair = await makePair(env, route, echo);
      const payloads = Array.from({ length: 100 }, () => randomBytes(10_000));
      const started = await Promise.all(payloads.map(() => pair.connect({ stdin: "open" })));
      for (const [i, one] of started.entries()) await one.write(payloads[i]!);
      await env.until("all to be open", () => pair.fakeAnnex.open === 100);
      for (const one of started) await one.end();
      for (const [i, one] of started.entries()) {
        const run = await one.ended;
        assert.equal(run.code, 0);
        assert.deepEqual(run.stdoutBytes.subarray(AUTH_SUCCESS.length), payloads[i]!);
      }
      assert.equal(pair.fakeAnnex.most, 100);
    },
  );
}
