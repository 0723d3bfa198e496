import assert from "node:assert/strict";
import { join } from "node:path";
import { isGroupAlive, signalGroup } from "../platform/processes.ts";
import { FetchWatch } from "./fetch_watch.ts";

/** Starts a shell script under the name `git`, in a process group of its own. */
async function withGit(
  script: string,
  args: readonly string[],
  test: (group: number) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const shell = join(folder, "git");
  await Deno.symlink("/bin/sh", shell);
  const command = new Deno.Command(shell, {
    args: ["-c", script, ...args],
    stdin: "null",
    stdout: "null",
    detached: true,
  });
  await using child = command.spawn();
  try {
    await test(child.pid);
  } finally {
    signalGroup(child.pid, "SIGKILL");
    await child.status;
    await Deno.remove(folder, { recursive: true });
  }
}

const limits = { hungMs: 300, lookIntervalMs: 20 };
const HANGS = "sleep 600; exit";
const WORKS = "while :; do echo x; sleep 0.05; done";

async function pause(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
}

const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test("FetchWatch ends a git fetch that hangs, with what it has started", onLinux, async () => {
  await withGit(HANGS, ["fetch", "friend"], async (group) => {
    const watch = new FetchWatch(group, limits);
    while (await isGroupAlive(group)) {
      await watch.look();
      await pause(10);
    }
  });
});

Deno.test(
  "FetchWatch ends no git fetch that works, and nothing else that waits",
  onLinux,
  async () => {
    for (const [script, word] of [[WORKS, "fetch"], [HANGS, "remotedaemon"]] as const) {
      await withGit(script, [word, "friend"], async (group) => {
        const watch = new FetchWatch(group, limits);
        const end = performance.now() + 3 * limits.hungMs;
        while (performance.now() < end) {
          await watch.look();
          await pause(10);
        }
        assert(await isGroupAlive(group));
      });
    }
  },
);
