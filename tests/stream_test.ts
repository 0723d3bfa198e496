/** What becomes of a stream of bytes: slow readers, ends of either side, many one after another. */

import assert from "node:assert/strict";
import {
  AUTH_SUCCESS,
  checksumOf,
  echo,
  makePair,
  randomBytes,
  readChecksum,
  ROUTES,
  silence,
  writeAll,
} from "./pair.ts";
import {
  memoryOf,
  openFilesOf,
  scenario,
  type Started,
  type TestEnv,
  type Tool,
} from "./testenv.ts";
import { deno } from "./tools.ts";

const MIB = 1024 * 1024;
const authSuccess = new TextEncoder().encode(AUTH_SUCCESS);

/** Waits until a number stops to grow, and returns it. */
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

/** What goes to a reader that does not read is held back by whoever sends it, and fills nobody's memory. */
async function assertHeldBack(
  env: TestEnv,
  written: () => number,
  processes: readonly Started[],
): Promise<void> {
  const held = await settled(env, "what was sent", written);
  assert(held < 20 * MIB, `${held} bytes are on the way to a reader that does not read`);
  if (Deno.build.os !== "linux") return;
  for (const { pid } of processes) {
    const memory = await memoryOf(pid);
    assert(memory < 200, `${memory} MiB of memory`);
  }
}

/** Reads what is left of a process's stdout, and says how much it was and its checksum. */
async function drain(started: Started): Promise<{ length: number; checksum: string }> {
  const reader = started.stdoutReader.getReader();
  let rest = new Uint8Array();
  return await readChecksum({
    async read(buffer) {
      if (rest.length === 0) {
        const { value, done } = await reader.read();
        if (done) return null;
        rest = Uint8Array.from(value);
      }
      const length = Math.min(rest.length, buffer.length);
      buffer.set(rest.subarray(0, length));
      rest = rest.subarray(length);
      return length;
    },
  });
}

const DUMBPIPE = { GIT_ANNEX_P2P_IROH_LANE: "false" }; // the protocol is dumbpipe's then

for (
  const [route, protocol, settings] of ROUTES.flatMap((route) =>
    [[route, "", {}], [route, " by dumbpipe's protocol", DUMBPIPE]] as const
  )
) {
  const needs: Tool[] = route === "relay" ? ["iroh-relay"] : [];

  scenario(
    `${route}: a slow reader at the connecting side${protocol} holds the sender back, and gets everything`,
    { needs, limitMs: 120_000 },
    async (env) => {
      const data = randomBytes(40 * MIB);
      let written = 0;
      const pair = await makePair(env, route, async (connection) => {
        await writeAll(connection, authSuccess);
        for (let i = 0; i < data.length; i += 64 * 1024) {
          await writeAll(connection, data.subarray(i, i + 64 * 1024));
          written = i + 64 * 1024;
        }
      }, settings);
      const dialer = await pair.connect({ stdin: "open", collect: false });
      await assertHeldBack(env, () => written, [dialer, pair.listener]);
      const whole = await checksumOf(new Uint8Array([...authSuccess, ...data]));
      assert.deepEqual(await drain(dialer), {
        length: authSuccess.length + data.length,
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
        await writeAll(connection, authSuccess);
        await go.promise;
        arrived = readChecksum(connection);
        await arrived;
      }, settings);
      const dialer = await pair.connect({ stdin: "open" });
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

for (const route of ROUTES) {
  const needs: Tool[] = route === "relay" ? ["iroh-relay"] : [];

  // Through a relay a connection is nothing else to the listener's protocols.
  for (const protocol of route === "direct" ? ["dumbpipe", "mux"] : ["dumbpipe"]) {
    scenario(
      `${route}: connections one after another by the ${protocol} protocol leave no file open and no memory taken`,
      {
        needs: ["namespaces", "proc", ...needs],
        limitMs: 240_000,
      },
      async (env) => {
        const pair = await makePair(env, route, echo);
        // The memory of a JavaScript program grows until it is first collected, so it is compared
        // between 400 connections and 800; 150 kB for each, as a leak once took, would be 57 MiB.
        const dialer = await env.start(
          deno("many_dials.ts", pair.dialed, pair.relay?.url ?? "none", "800", protocol),
          {
            on: pair.network.b,
            stdin: "open",
          },
        );
        const measured: { files: number; memory: number }[] = [];
        for (let done = 100; done <= 800; done += 100) {
          await dialer.says(new RegExp(`^${done} done`, "m"));
          await env.until("all to be closed", () => pair.fakeAnnex.open === 0);
          const { pid } = pair.listener;
          measured.push({ files: await openFilesOf(pid), memory: await memoryOf(pid) });
          await dialer.write("\n");
        }
        assert.equal((await dialer.ended).code, 0);
        const files = measured.map(({ files }) => files);
        assert(files.at(-1)! <= files[0]! + 2, `open files: ${files}`);
        const memory = measured.map(({ memory }) => Math.round(memory));
        assert(memory.at(-1)! - memory[3]! < 20, `memory: ${memory} MiB`);
      },
    );
  }

  scenario(`${route}: the end of one direction leaves the other open`, { needs }, async (env) => {
    const pair = await makePair(env, route, async (connection) => {
      // Everything comes, and its end; then the answer goes.
      const { length } = await readChecksum(connection);
      await writeAll(connection, authSuccess);
      await writeAll(connection, new TextEncoder().encode(`${length} bytes came\n`));
    });
    const run = await (await pair.connect({ stdin: randomBytes(100_000) })).ended;
    assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}100000 bytes came\n`]);
  });

  scenario(`${route}: the end of what the peer sends reaches stdout while stdin is still read`, {
    needs,
  }, async (env) => {
    const came = Promise.withResolvers<{ length: number }>();
    const pair = await makePair(env, route, async (connection) => {
      await writeAll(connection, authSuccess);
      await connection.closeWrite();
      came.resolve(await readChecksum(connection));
    });
    const dialer = await pair.connect({ stdin: "open", collect: false });
    assert.equal((await drain(dialer)).length, authSuccess.length);
    assert.equal(dialer.code, undefined);
    await dialer.write(randomBytes(100_000));
    await dialer.end();
    assert.equal((await came.promise).length, 100_000);
    assert.equal((await dialer.ended).code, 0);
  });

  scenario(`${route}: the same where all of stdin has been read, and waits for the peer`, {
    needs,
  }, async (env) => {
    // More than git-annex's socket holds, so that the peer does not come to the end.
    const given = randomBytes(1_000_000), came = Promise.withResolvers<string>();
    const mayEnd = Promise.withResolvers<void>(), mayRead = Promise.withResolvers<void>();
    const pair = await makePair(env, route, async (connection) => {
      await writeAll(connection, authSuccess);
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
    assert.equal((await drain(dialer)).length, authSuccess.length);
    assert.equal(dialer.code, undefined);
    mayRead.resolve();
    assert.equal(await came.promise, await checksumOf(given));
    assert.equal((await dialer.ended).code, 0);
  });

  scenario(`${route}: ends with status 0 soon after the peer has closed, though stdin is open`, {
    needs,
  }, async (env) => {
    const data = randomBytes(3_000_000);
    const pair = await makePair(env, route, async (connection) => {
      await writeAll(connection, authSuccess);
      await writeAll(connection, data);
      connection.close();
    });
    const dialer = await pair.connect({ stdin: "open" });
    await env.until(
      "all to be there",
      () => dialer.stdout.length === authSuccess.length + data.length,
    );
    const all = performance.now();
    const { code, stdoutBytes } = await dialer.ended;
    assert.equal(code, 0);
    assert(performance.now() - all < 1_000, `${performance.now() - all} ms`);
    assert.equal(
      await checksumOf(stdoutBytes.subarray(authSuccess.length)),
      await checksumOf(data),
    );
  });

  scenario(`${route}: what git-annex wrote before it closed with input unread comes through`, {
    needs,
  }, async (env) => {
    const data = randomBytes(1_000_000);
    const pair = await makePair(env, route, async (connection) => {
      await connection.read(new Uint8Array(1)); // and leaves the rest
      await writeAll(connection, authSuccess);
      await writeAll(connection, data);
      connection.close();
    });
    const dialer = await pair.connect({ stdin: "open" });
    await dialer.write(randomBytes(50_000));
    const { code, stdoutBytes } = await dialer.ended;
    assert.equal(code, 0);
    assert.equal(
      await checksumOf(stdoutBytes.subarray(authSuccess.length)),
      await checksumOf(data),
    );
  });

  scenario(
    `${route}: ends with status 0 when whoever reads its stdout has enough`,
    { needs },
    async (env) => {
      const pair = await makePair(env, route, async (connection) => {
        await writeAll(connection, authSuccess);
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

  scenario(`${route}: an idle connection is kept open`, { needs, limitMs: 90_000 }, async (env) => {
    const pair = await makePair(env, route, silence);
    const dialer = await pair.connect({ stdin: "open" });
    await dialer.says(/AUTH-SUCCESS/);
    const start = performance.now();
    // Longer than any limit there is for a connection that has not got as far.
    await env.until("35 s to pass", () => performance.now() - start > 35_000);
    assert.equal(dialer.code, undefined);
    await dialer.end();
    assert.equal((await dialer.ended).code, 0);
  });
}
