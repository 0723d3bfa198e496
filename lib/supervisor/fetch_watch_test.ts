import assert from "node:assert/strict";
import { join } from "node:path";
import { groupMembers, isGroupAlive, processActivity, signalGroup } from "../platform/processes.ts";
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
    while ((await groupMembers(child.pid)).length < 2) await pause(10); // with what the script starts
    await test(child.pid);
  } finally {
    signalGroup(child.pid, "SIGKILL");
    await child.status;
    await Deno.remove(folder, { recursive: true });
  }
}

/** Looks at the fetches, each time long after the one before. */
class Watch {
  #now = 0;
  readonly #watch: FetchWatch;

  constructor(group: number) {
    this.#watch = new FetchWatch(group, { now: () => this.#now });
  }

  /** @returns The names of the remotes whose fetches are ended. */
  async look(): Promise<string[]> {
    this.#now += 60_000;
    return await this.#watch.look();
  }
}

const HANGS = "sleep 600; exit";
const WORKS = "while :; do echo x; sleep 0.05; done";

async function pause(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Waits until the shell has done something. */
async function untilActive(shell: number): Promise<void> {
  const before = await processActivity(shell);
  while (await processActivity(shell) === before) {
    assert(await isGroupAlive(shell));
    await pause(10);
  }
}

const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test("FetchWatch ends a git fetch that hangs, with what it has started", onLinux, async () => {
  await withGit(HANGS, ["fetch", "friend"], async (group) => {
    const watch = new Watch(group);
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
        const watch = new Watch(group);
        for (let look = 0; look < 5; look++) {
          assert.deepEqual(await watch.look(), []);
          if (word === "fetch") await untilActive(group);
        }
        assert(await isGroupAlive(group));
      });
    }
  },
);
