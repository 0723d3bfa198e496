/** A slow reader holds the sender back, fills no memory, and gets everything. */

import assert from "node:assert/strict";
import {
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
import { concat, memoryOf, scenario, type Started, type TestEnv } from "./testenv.ts";

const MIB = 1024 * 1024;

/** Waits until a number has not grown for a while. @returns The number. */
async function settled(env: TestEnv, what: string, number: () => number): Promise<number> {
  let before = -1, since = performance.now();
  await env.until(`${what} to stop growing`, () => {
    if (number() !== before) {
      before = number();
      since = performance.now();
    }
    return performance.now() - since > 1_500;
  });
  return before;
}

/** Checks that the sender waits for a reader that does not read, and that no process's memory fills. */
async function assertHeldBack(
  env: TestEnv,
  written: () => number,
  processes: readonly Started[],
): Promise<void> {
  const held = await settled(env, "what was sent", written);
  assert(held < 20 * MIB, `${held} bytes are in flight to a reader that does not read`);
  if (Deno.build.os !== "linux") return;
  for (const { pid } of processes) {
    const memory = await memoryOf(pid);
    assert(memory < 200, `${memory} MiB of memory`);
  }
}

/** Settings with which both ends use dumbpipe's protocol. */
const DUMBPIPE = { GIT_ANNEX_P2P_IROH_LANE: "false" };

for (
  const [route, protocol, settings] of ROUTES.flatMap((route) =>
    [[route, "", {}], [route, " by dumbpipe's protocol", DUMBPIPE]] as const
  )
) {
  const needs = toolsFor(route);

  scenario(
    `${route}: a slow reader at the connecting side${protocol} holds the sender back, and gets everything`,
    { needs, limitMs: 120_000 },
    async (env) => {
      const data = randomBytes(40 * MIB);
      let written = 0;
      const pair = await makePair(env, route, async (connection) => {
        await writeAll(connection, AUTH_SUCCESS_BYTES);
        for (let i = 0; i < data.length; i += 64 * 1024) {
          await writeAll(connection, data.subarray(i, i + 64 * 1024));
          written = i + 64 * 1024;
        }
      }, settings);
      const dialer = await pair.connect({ stdin: "open", collect: false });
      await assertHeldBack(env, () => written, [dialer, pair.listener]);
      const whole = await checksumOf(concat([AUTH_SUCCESS_BYTES, data]));
      assert.deepEqual(await drain(dialer), {
        length: AUTH_SUCCESS_BYTES.length + data.length,
        checksum: whole,
      });
      assert.equal((await dialer.ended).code, 0);
    },
  );

  scenario(
    `${route}: a slow reader behind the listener${protocol} holds the sender back, and gets everything`,
    {
      needs,
      limitMs: 120_000,
    },
    async (env) => {
      const data = randomBytes(40 * MIB);
      const go = Promise.withResolvers<void>();
      let arrived: Promise<{ length: number; checksum: string }> | undefined;
      const pair = await makePair(env, route, async (connection) => {
        await writeAll(connection, AUTH_SUCCESS_BYTES);
        await go.promise;
        arrived = readChecksum(connection);
        await arrived;
      }, settings);
      const dialer = await pair.connect({ stdin: "open" });
      await dialer.says(/AUTH-SUCCESS/); // from a peer that is not let in yet, the listener takes little
      let written = 0;
      const writing = (async () => {
        for (let i = 0; i < data.length; i += 64 * 1024) {
          await dialer.write(data.subarray(i, i + 64 * 1024));
          written = i + 64 * 1024;
        }
        await dialer.end();
      })();
      await assertHeldBack(env, () => written, [dialer, pair.listener]);
      go.resolve();
      await writing;
      assert.equal((await dialer.ended).code, 0);
      assert.deepEqual(await arrived, { length: data.length, checksum: await checksumOf(data) });
    },
  );
}
