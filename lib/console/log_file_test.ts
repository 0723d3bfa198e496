import assert from "node:assert/strict";
import { join } from "node:path";
import { LogFile } from "./log_file.ts";

Deno.test("LogFile keeps the latest lines, in two files of at most 130 KiB each", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const log = new LogFile(join(dir, "log"));
    for (let i = 0; i < 5000; i++) {
      const written = log.write(`line ${i} ${"x".repeat(100)}`);
      if (i % 500 === 0) await written;
    }
    await log[Symbol.asyncDispose]();
    const sizes = await Promise.all(["log", "log.old"].map((name) => Deno.stat(join(dir, name))));
    assert(sizes.every(({ size }) => size < 130 * 1024));
    assert.equal((await Array.fromAsync(Deno.readDir(dir))).length, 2);
    assert.match(
      await Deno.readTextFile(log.path),
      /^\d{4}-\d\d-\d\dT.*Z \[\d+\] line 4999 x+\n$/m,
    );
    assert.equal((await Deno.stat(log.path)).mode! & 0o777, 0o600);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("LogFile does not reject if the folder does not exist", async () => {
  await new LogFile("/nonexistent/log").write("lost");
});

Deno.test("LogFile does not write to what is no regular file", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await new LogFile(dir).write("lost");
    await Deno.symlink("/dev/null", join(dir, "log"));
    await new LogFile(join(dir, "log")).write("lost");
    assert((await Deno.lstat(join(dir, "log"))).isSymlink);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("LogFile does not keep its caller waiting for the disk, and loses no line at the end", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const log = new LogFile(join(dir, "log"));
    for (let i = 0; i < 100; i++) log.write(`line ${i}`);
    assert.throws(() => Deno.statSync(log.path), Deno.errors.NotFound);
    await log[Symbol.asyncDispose]();
    const lines = (await Deno.readTextFile(log.path)).trimEnd().split("\n");
    assert.deepEqual(lines.map((line) => line.split(" ").at(-1)), lines.map((_, i) => `${i}`));
    assert.equal(lines.length, 100);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("LogFile keeps at most 1000 lines in memory for a disk that stands still", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await using log = new LogFile(join(dir, "log"));
    const written = Array.from({ length: 1500 }, (_, i) => log.write(`${i}`));
    await Promise.all(written);
    assert.equal((await Deno.readTextFile(log.path)).trimEnd().split("\n").length, 1000);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("LogFile does not wait for a FIFO", { ignore: Deno.build.os === "windows" }, async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "log");
    await new Deno.Command("mkfifo", { args: [path] }).output();
    await new LogFile(path).write("a line");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
