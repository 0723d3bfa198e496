/** The connecting process ends on a signal, and when the peer has closed. */

import assert from "node:assert/strict";
import {
  AUTH_SUCCESS_BYTES,
  makePair,
  type Pair,
  ROUTES,
  silence,
  toolsFor,
  writeAll,
} from "./pair.ts";
import { killQuietly, scenario, type Started, type TestEnv } from "./testenv.ts";

scenario("connect ends on a signal while the peer does not read", {}, async (env) => {
  const stalled = await makePair(env, "loopback", async (connection) => {
    await writeAll(connection, AUTH_SUCCESS_BYTES);
    await new Promise(() => {}); // never reads
  });
  const sending = await stalled.connect({ stdin: new Uint8Array(20_000_000) });
  await sending.says(/AUTH-SUCCESS/);
  sending.kill("SIGTERM");
  assert.equal((await sending.ended).code, 143);
});

scenario(
  "connect ends on a signal while its stdout is not read",
  { needs: ["namespaces", "proc"] },
  async (env) => {
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      for (const chunk = new Uint8Array(64 * 1024);;) await writeAll(connection, chunk);
    });
    const script = "git-annex-p2p-iroh $0 & echo $! >&2; wait $!; echo status $? >&2";
    const dialer = await env.start(["sh", "-c", script, pair.dialed], {
      on: pair.network.b,
      stdin: "open",
      collect: false,
    });
    const pid = Number(/\d+/.exec(await dialer.says(/^\d+/))![0]);
    await env.until("git-annex to be asked", () => pair.fakeAnnex.open === 1);
    let before = -1;
    await env.until("stdout to be full", async () => {
      const now = await writtenBy(pid);
      const same = now > 0 && now === before;
      before = now;
      await new Promise((resolve) => setTimeout(resolve, 300)); // a pipe that is read drains sooner
      return same;
    });
    killQuietly(pid, "SIGTERM");
    await dialer.says(/status 143/);
  },
);

/** Returns the number of bytes that a process has written so far (proc(5)). */
async function writtenBy(pid: number): Promise<number> {
  return Number(/wchar: (\d+)/.exec(await Deno.readTextFile(`/proc/${pid}/io`))![1]);
}

/**
 * Less than iroh's close of an endpoint takes, which is more than a second. A process that waits for it does so each
 * time. A busy machine takes as long only now and then.
 */
const WAIT_MS = 700;
/** A peer that is not told notices the loss after 15 s or more. */
const UNTOLD_MS = 14_000;

async function served(env: TestEnv, pair: Pair): Promise<Started> {
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  await env.until("git-annex to be asked", () => pair.fakeAnnex.open === 1);
  return dialer;
}

for (const route of ROUTES) {
  const needs = toolsFor(route);

  scenario(`${route}: connect ends on a signal with its status, and tells the peer at once`, {
    needs,
  }, async (env) => {
    const pair = await makePair(env, route, silence);
    for (const [signal, status] of [["SIGTERM", 143], ["SIGINT", 130], ["SIGHUP", 129]] as const) {
      const dialer = await served(env, pair);
      const started = performance.now();
      dialer.kill(signal);
      const { code, stderr } = await dialer.ended;
      assert.deepEqual([code, stderr], [status, ""]); // no message: the sender of the signal knows
      await env.until("git-annex's side to be closed", () => pair.fakeAnnex.open === 0);
      assert(performance.now() - started < UNTOLD_MS);
    }
  });

  scenario(`${route}: connect ends soon after the peer has closed`, { needs }, async (env) => {
    const pair = await makePair(env, route, async (connection) => {
      await silence(connection);
      closed = performance.now();
    });
    let closed = 0;
    const times: number[] = [];
    while (times.every((time) => time >= WAIT_MS) && times.length < 5) {
      const run = await (await pair.connect({ stdin: "hello\n" })).ended;
      times.push(performance.now() - closed);
      assert.equal(run.code, 0);
    }
    assert(Math.min(...times) < WAIT_MS, `${times} ms`);
  });
}
