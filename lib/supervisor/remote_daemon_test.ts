import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { thisHost } from "../platform/host.ts";
import { isGroupAlive, signalGroup } from "../platform/processes.ts";
import { upLogPath } from "./entry.ts";
import type { UpEvent } from "./event.ts";
import { endLeftBehind, RemoteDaemon } from "./remote_daemon.ts";
import { Supervisor } from "./supervisor.ts";

/** Makes a repository in which git waits for a writer of its config. */
async function hangingRepository(): Promise<string> {
  const folder = await Deno.makeTempDir();
  const script = "git init --quiet && rm .git/config && mkfifo .git/config";
  const made = await new Deno.Command("sh", { args: ["-c", script], cwd: folder }).output();
  assert(made.success, new TextDecoder().decode(made.stderr));
  return folder;
}

Deno.test({
  name: "endLeftBehind() leaves alone other processes, and the remotedaemon of an up that runs",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    const folder = await hangingRepository();
    const listener = { message: () => {}, said: () => {} };
    await using daemon = RemoteDaemon.start(folder, "/a/.git", listener);
    const { group } = daemon;
    const other = new Deno.Command("sleep", { args: ["60"], detached: true }).spawn();
    try {
      await endLeftBehind({ pid: 1, group }, "/b/.git");
      await endLeftBehind({ pid: Deno.pid, group }, "/a/.git");
      await endLeftBehind({ pid: 1, group: other.pid }, "/a/.git"); // which has the id by now
      assert(await isGroupAlive(group));
      assert(await isGroupAlive(other.pid));
    } finally {
      for (const each of [group, other.pid]) signalGroup(each, "SIGKILL");
      await other.status;
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  name: "Supervisor says what it waits for while it ends a remotedaemon that hangs",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    const folder = await hangingRepository(), gitDir = join(folder, ".git");
    await using daemon = RemoteDaemon.start(folder, gitDir, { message: () => {}, said: () => {} });
    const { group } = daemon, stop = new AbortController(), events: UpEvent[] = [];
    const states: string[] = [];
    try {
      const of = dirname(upLogPath({ gitDir })), since = new Date().toISOString();
      await Deno.mkdir(of, { recursive: true });
      const left = { pid: 1, since, where: "there", state: "serving", host: thisHost(), group };
      await Deno.writeTextFile(join(of, "up"), JSON.stringify(left));
      const emit = (event: UpEvent) => {
        events.push(event);
        states.push(JSON.parse(Deno.readTextFileSync(join(of, "up"))).state);
      };
      const running = new Supervisor({ repository: { gitDir }, folder, emit }).run(stop.signal);
      const ended = assert.rejects(running);
      while (await isGroupAlive(group)) await new Promise((resolve) => setTimeout(resolve, 20));
      stop.abort(new Error("the test is over"));
      await ended;
      const by = "git annex remotedaemon of an up that was killed";
      assert.deepEqual(events, [{ event: "waiting", pid: group, by }]);
      // Otherwise `up --background` and `join` take the repository for served.
      assert.deepEqual(states, ["starting"]);
    } finally {
      signalGroup(group, "SIGKILL");
      await Deno.remove(folder, { recursive: true });
    }
  },
});
