import assert from "node:assert/strict";
import { RefusalLog } from "./refusal_log.ts";

Deno.test("RefusalLog reports the first refusal at once, and then one line an interval", () => {
  let now = 5_000;
  const lines: string[] = [];
  const log = new RefusalLog((line) => lines.push(line), { now: () => now });
  log.add("a", "full");
  for (let i = 0; i < 500; i++) log.add("b", "full");
  now += 999;
  log.add("c", "full");
  assert.deepEqual(lines, ["refused 1, the last from a: full"]);
  now += 1;
  log.add("d", "stopping");
  assert.deepEqual(lines.slice(1), ["refused 502, the last from d: stopping"]);
});
