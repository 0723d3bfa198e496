import assert from "node:assert/strict";
import { join } from "node:path";
import { NotRegular, readAtMost, readTextAtMost } from "./regular_file.ts";
import { withFolder } from "../../tests/temporary_folder.ts";

const onUnix = { ignore: Deno.build.os === "windows" };

Deno.test("readAtMost() reads the beginning of a file", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "file");
    await Deno.writeTextFile(path, "0123456789");
    assert.equal(readTextAtMost(path, 4), "0123");
    assert.equal(readTextAtMost(path, 4_000), "0123456789");
    await Deno.writeTextFile(path, "");
    assert.equal(readAtMost(path, 4).length, 0);
  });
});

Deno.test(
  "readAtMost() waits for no FIFO, and reads no socket, device or folder",
  onUnix,
  async () => {
    await withFolder(async (dir) => {
      const fifo = join(dir, "fifo"), link = join(dir, "link"), socket = join(dir, "socket");
      await new Deno.Command("mkfifo", { args: [fifo] }).output();
      await Deno.symlink(fifo, link);
      using _ = Deno.listen({ transport: "unix", path: socket });
      for (const path of [fifo, link, socket, "/dev/zero", dir]) {
        assert.throws(() => readAtMost(path, 8), NotRegular, path);
      }
    });
  },
);

Deno.test("readAtMost() throws Deno's errors, in the system's words", onUnix, async () => {
  await withFolder(async (dir) => {
    const missing = join(dir, "it's missing");
    assert.throws(() => readAtMost(missing, 8), (error: Error) => {
      assert(error instanceof Deno.errors.NotFound);
      assert.equal(error.message, "no such file or directory");
      return true;
    });
    await Deno.writeTextFile(join(dir, "file"), "");
    assert.throws(() => readAtMost(join(dir, "file", "below"), 8), { message: "not a directory" });
  });
});
