import assert from "node:assert/strict";
import { join } from "node:path";
import { withFolder } from "../../tests/temporary_folder.ts";
import { HeldFile, readHeldFile } from "./held_file.ts";

const onUnix = { ignore: Deno.build.os === "windows" };

async function inFolder(test: (path: string) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    await test(join(folder, "held"));
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name), ["held"]);
  });
}

Deno.test(
  "HeldFile.claim() fails while the file is held, and its readers can tell",
  onUnix,
  async () => {
    await inFolder(async (path) => {
      const first = await HeldFile.claim(path, "first, with a long text");
      assert.equal(await HeldFile.claim(path, "second"), undefined);
      assert.deepEqual(readHeldFile(path, 100), { text: "first, with a long text", isHeld: true });
      first!.rewrite("short");
      assert.deepEqual(readHeldFile(path, 100), { text: "short", isHeld: true });
      first![Symbol.dispose]();
      assert.deepEqual(readHeldFile(path, 3), { text: "sho", isHeld: false });
      using _second = await HeldFile.claim(path, "second");
      assert.deepEqual(readHeldFile(path, 100), { text: "second", isHeld: true });
    });
  },
);

Deno.test("HeldFile.replace() takes the place of a file that is held", onUnix, async () => {
  await inFolder(async (path) => {
    const first = await HeldFile.replace(path, "first");
    using _second = await HeldFile.replace(path, "second");
    first[Symbol.dispose]();
    assert.deepEqual(readHeldFile(path, 100), { text: "second", isHeld: true });
    assert.equal(Deno.statSync(path).mode! & 0o777, 0o600);
  });
});

Deno.test(
  "readHeldFile() tells that the holder was killed, although its parent has not collected it",
  onUnix,
  async () => {
    await inFolder(async (path) => {
      const script = `
      const { HeldFile } = await import(${JSON.stringify(import.meta.resolve("./held_file.ts"))});
      globalThis.held = await HeldFile.claim(Deno.args[0], "child");
      console.log("held");
      setInterval(() => {}, 1000);`;
      const command = new Deno.Command(Deno.execPath(), {
        args: ["eval", "--quiet", script, path],
        stdin: "null",
        stdout: "piped",
      });
      await using child = command.spawn();
      const reader = child.stdout.getReader();
      await reader.read();
      assert.deepEqual(readHeldFile(path, 100), { text: "child", isHeld: true });
      child.kill("SIGKILL");
      while (readHeldFile(path, 100).isHeld) await new Promise((next) => setTimeout(next, 1));
      await child.status;
    });
  },
);

Deno.test("readHeldFile() and HeldFile.claim() do not wait for a FIFO", {
  ignore: Deno.build.os === "windows",
}, async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "fifo");
    await new Deno.Command("mkfifo", { args: [path] }).output();
    assert.throws(() => readHeldFile(path, 100), { name: "NotRegular" });
    await assert.rejects(HeldFile.claim(path, "text"), { name: "NotRegular" });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
