import assert from "node:assert/strict";
import { join } from "node:path";
import { LogFile } from "./log_file.ts";

Deno.test("LogFile keeps the latest lines, in two files of at most 130 KiB each", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const log = new LogFile(join(dir, "log"));
    for (let i = 0; i < 5000; i++) log.write(`line ${i} ${"x".repeat(100)}`);
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

Deno.test("LogFile does not throw if the folder does not exist", () => {
  new LogFile("/nonexistent/log").write("lost");
});
