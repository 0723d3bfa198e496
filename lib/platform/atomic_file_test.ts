import assert from "node:assert/strict";
import { join } from "node:path";
import { readOwnText } from "./atomic_file.ts";
import { withFolder } from "../../tests/temporary_folder.ts";

const onUnix = { ignore: Deno.build.os === "windows" };

Deno.test("readOwnText() reads no FIFO, and follows no link", onUnix, async () => {
  await withFolder(async (dir) => {
    const fifo = join(dir, "fifo"), link = join(dir, "link"), file = join(dir, "file");
    await new Deno.Command("mkfifo", { args: [fifo] }).output();
    await Deno.writeTextFile(file, "0123456789");
    await Deno.symlink(file, link);
    assert.equal(readOwnText(file, 4), "0123");
    for (const path of [fifo, link, dir]) {
      assert.throws(() => readOwnText(path, 8), { message: /not a regular file of this user/ });
    }
  });
});
