import assert from "node:assert/strict";
import { isGroupAlive, signalGroup } from "../platform/processes.ts";
import { endLeftBehind, RemoteDaemon } from "./remote_daemon.ts";

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
