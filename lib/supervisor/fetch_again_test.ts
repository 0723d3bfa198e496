import assert from "node:assert/strict";
import { delimiter, join } from "node:path";
import { fetchAgain } from "./fetch_again.ts";

const limits = { hungMs: 300, lookIntervalMs: 20 };
const onLinux = { ignore: Deno.build.os !== "linux" };

/** Makes a PATH with a `git` that hangs in its first calls, and then exits. */
async function withGit(
  hangs: number,
  exitStatus: number,
  test: (folder: string, calls: () => number, env: { PATH: string }) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const env = { PATH: folder + delimiter + Deno.env.get("PATH") };
  await Deno.symlink("/bin/sh", join(folder, "git"));
  // The shell runs the file "fetch" when it is called as git fetch.
  await Deno.writeTextFile(
    join(folder, "fetch"),
    `echo "$*" >> calls\n[ $(wc -l < calls) -gt ${hangs} ] || sleep 600\nexit ${exitStatus}\n`,
  );
  try {
    await test(
      folder,
      () => Deno.readTextFileSync(join(folder, "calls")).split("\n").length - 1,
      env,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("fetchAgain() tries again if git hangs, and not if it fails", onLinux, async () => {
  const { signal } = new AbortController();
  for (
    const [hangs, exitStatus, succeeds, calls] of [
      [1, 0, true, 2],
      [0, 1, false, 1],
      [9, 0, false, 3],
    ] as const
  ) {
    await withGit(hangs, exitStatus, async (folder, count, env) => {
      assert.equal(await fetchAgain(folder, "friend", signal, { env, limits }), succeeds);
      assert.equal(count(), calls);
      assert.match(await Deno.readTextFile(join(folder, "calls")), /^--quiet friend$/m);
    });
  }
});

Deno.test("fetchAgain() ends git when its signal aborts", onLinux, async () => {
  await withGit(9, 0, async (folder, count, env) => {
    const controller = new AbortController(), reason = new Error("enough");
    const fetching = fetchAgain(folder, "friend", controller.signal, { env });
    fetching.catch(() => {}); // awaited below
    while (true) {
      try {
        if (count() === 1) break;
      } catch { /* git has not started yet */ }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    controller.abort(reason);
    await assert.rejects(fetching, reason);
  });
});
