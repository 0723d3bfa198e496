import assert from "node:assert/strict";
import { join } from "node:path";
import { LogFile } from "../console/log_file.ts";
import { reportTo } from "./serve.ts";

Deno.test("reportTo() writes to the log before stderr, whose reader may look into the log at once", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "log");
  const seen: string[] = [];
  {
    await using log = new LogFile(path);
    const report = reportTo(log, (message) => {
      seen.push(message, Deno.readTextFileSync(path));
    });
    report("serving");
  }
  await Deno.remove(folder, { recursive: true });
  assert.equal(seen[0], "serving");
  assert.match(seen[1]!, /^\S+Z \[\d+\] serving\n$/);
});
