import assert from "node:assert/strict";
import { eventLoopTurns } from "../../tests/event_loop.ts";
import { join } from "node:path";
import { parseDaemonMessage } from "./daemon_message.ts";
import { eventText, type UpEvent } from "./event.ts";
import { Remotes } from "./remotes.ts";

const URL = "p2p-annex::iroh:endpointa";

Deno.test("parseDaemonMessage() knows the messages about remotes, and no other line", () => {
  assert.deepEqual(parseDaemonMessage(`CONNECTED ${URL}`), {
    kind: "CONNECTED",
    url: URL,
    rest: "",
  });
  assert.equal(parseDaemonMessage(`DONESYNCING ${URL} 1`)!.rest, "1");
  assert.equal(parseDaemonMessage(`WARNING ${URL} two words`)!.rest, "two words");
  for (
    const line of ["", "CONNECTED", "CONNECTED ", "connected x", "CONNECTEDX x", "1 CONNECTED x"]
  ) {
    assert.equal(parseDaemonMessage(line), undefined, line);
  }
});

Deno.test("Remotes names remotes, and tells each change once and in order", async () => {
  const gitDir = await Deno.makeTempDir();
  try {
    const config = join(gitDir, "config");
    await Deno.writeTextFile(join(gitDir, "HEAD"), "ref: refs/heads/main\n");
    await Deno.mkdir(join(gitDir, "objects"));
    await Deno.mkdir(join(gitDir, "refs"));
    await Deno.writeTextFile(config, "[core]\nbare = true\n");
    const events: UpEvent[] = [];
    const remotes = new Remotes({ gitDir }, (event) => events.push(event));
    const hear = (...lines: string[]) =>
      lines.forEach((line) => remotes.hear(parseDaemonMessage(line)!));
    hear("CONNECTED ssh://host/x");
    await remotes.forget(true);
    // The remote is added after the names were read.
    await Deno.writeTextFile(config, `[core]\nbare = true\n[remote "ann"]\nurl = ${URL}\n`);
    hear(`CONNECTED ${URL}`, `CONNECTED ${URL}`, `SYNCING ${URL}`, `DONESYNCING ${URL} 0`);
    while (!events.some(({ event }) => event === "changes")) await eventLoopTurns(1);
    await eventLoopTurns(1);
    assert.deepEqual([remotes.takeDue(), remotes.takeDue()], [["ann"], []]);
    remotes.fetched("ann", false); // the fetch in its place has failed, too
    hear(
      `DONESYNCING ${URL} 1`,
      `WARNING ${URL} odd`,
      `DISCONNECTED ${URL}`,
      `DISCONNECTED ${URL}`,
    );
    hear(`CONNECTED ${URL}`);
    while (events.at(-1)?.event !== "here") await eventLoopTurns(1);
    await eventLoopTurns(1);
    assert.deepEqual(remotes.takeDue(), ["ann"]); // it is here again
    await remotes.forget(true);
    hear(`CONNECTED ${URL}`);
    await remotes.forget(false);
    assert.deepEqual(events.map(eventText), [
      "ssh://host/x is here",
      "ssh://host/x is gone",
      "ann is here",
      "ann has changes",
      "the changes of ann could not be fetched",
      "synced with ann",
      "git-annex: ann: odd",
      "ann is gone",
      "ann is here",
      "ann is gone",
      "ann is here",
    ]);
  } finally {
    await Deno.remove(gitDir, { recursive: true });
  }
});
