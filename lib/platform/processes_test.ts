import assert from "node:assert/strict";
import { isGroupAlive, processInfo, signalGroup } from "./processes.ts";

const onUnix = { ignore: Deno.build.os === "windows" };

Deno.test("processInfo() knows this process, and none that there is not", onUnix, async () => {
  const { pid, parent, isZombie, command } = (await processInfo(Deno.pid))!;
  assert.deepEqual([pid, parent, isZombie], [Deno.pid, Deno.ppid, false]);
  assert.match(command, /deno/);
  assert.equal(await processInfo(2 ** 30), undefined);
});

Deno.test(
  "isGroupAlive() tells whether a group has members, which signalGroup() ends",
  onUnix,
  async () => {
    const command = new Deno.Command("sh", {
      args: ["-c", "sleep 60 & exit"],
      stdin: "null",
      detached: true,
    });
    await using child = command.spawn();
    const group = child.pid;
    await child.status;
    assert(await isGroupAlive(group)); // by the other process
    assert(signalGroup(group, "SIGKILL"));
    while (await isGroupAlive(group)) await new Promise((next) => setTimeout(next, 5));
  },
);
