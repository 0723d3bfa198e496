import assert from "node:assert/strict";
import { delimiter, join } from "node:path";
import { fetchAgain } from "./fetch.ts";

const limits = { attempts: 3, hungMs: 300 };
/** For a git that makes progress every 100 ms. A busy machine may keep it from that for a while. */
const PATIENT_MS = 2_000;
const onUnix = { ignore: Deno.build.os === "windows" };

/** Makes a PATH with a `git` that hangs in its first calls, or fails in them, and then exits in order. */
async function withGit(
  hangs: number,
  failures: number,
  test: (
    folder: string,
    calls: () => number,
    env: { PATH: string },
    now: () => number,
  ) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const env = { PATH: folder + delimiter + Deno.env.get("PATH") };
  await Deno.symlink("/bin/sh", join(folder, "git"));
  // The shell runs the file "fetch" when it is called as git fetch.
  await Deno.writeTextFile(
    join(folder, "fetch"),
    `echo "$*" >> calls\n[ $(wc -l < calls) -gt ${hangs} ] || sleep 600\n` +
      `echo remote: counting >&2\n[ $(wc -l < calls) -gt ${failures} ] && exit 0\n` +
      "echo fatal: no luck >&2\nexit 1\n",
  );
  const calls = () => {
    try {
      return Deno.readTextFileSync(join(folder, "calls")).split("\n").length - 1;
    } catch {
      return 0; // git has not started yet
    }
  };
  try {
    // A clock on which no time passes but while git hangs.
    const now = () => Math.min(calls(), hangs) * 2 * limits.hungMs;
    await test(folder, calls, env, now);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("fetchAgain() tries again if git hangs or fails", onUnix, async () => {
  const { signal } = new AbortController();
  for (
    const [hangs, failures, reason, calls] of [
      [1, 0, "", 2],
      [0, 1, "", 2],
      [0, 9, "no luck", 3],
      [9, 0, "it made no progress for 0.3 s", 3],
    ] as const
  ) {
    await withGit(hangs, failures, async (folder, count, env, now) => {
      const outcome = await fetchAgain(folder, "friend", signal, { ...limits, now }, env);
      assert.deepEqual(outcome, { isSuccess: reason === "", reason });
      assert.equal(count(), calls);
      assert.match(await Deno.readTextFile(join(folder, "calls")), /^--progress friend$/m);
    });
  }
});

Deno.test("fetchAgain() ends git when its signal aborts", onUnix, async () => {
  await withGit(9, 0, async (folder, count, env) => {
    const patient = { ...limits, hungMs: 60_000 };
    const controller = new AbortController(), reason = new Error("enough");
    const fetching = fetchAgain(folder, "friend", controller.signal, patient, env);
    fetching.catch(() => {}); // awaited below
    while (count() === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    controller.abort(reason);
    await assert.rejects(fetching, reason);
  });
});

Deno.test("fetchAgain() lets git work that makes progress", onUnix, async () => {
  const { signal } = new AbortController();
  await withGit(0, 0, async (folder, count, env) => {
    const slowly = "for i in $(seq 25); do sleep 0.1; printf '%s\\r' $i >&2; done\n";
    await Deno.writeTextFile(join(folder, "fetch"), `echo "$*" >> calls\n${slowly}`);
    const patient = { ...limits, hungMs: PATIENT_MS };
    assert.deepEqual(await fetchAgain(folder, "friend", signal, patient, env), {
      isSuccess: true,
      reason: "",
    });
    assert.equal(count(), 1);
  });
});
