import assert from "node:assert/strict";
import { StrangerLog } from "./stranger_log.ts";

Deno.test("StrangerLog reports the first events as they are, and later ones as a sum", () => {
  const lines: string[] = [];
  let time = 0;
  const options = { burstLines: 2, lineIntervalMs: 1_000, now: () => time };
  {
    using log = new StrangerLog((line) => lines.push(line), options);
    for (const event of ["a", "b", "c", "d", "e"]) log.add(event);
    assert.deepEqual(lines.splice(0), ["a", "b"]);
    time = 1_000;
    log.add("f");
    assert.deepEqual(lines.splice(0), ["4 events of strangers, the last: f"]);
    time = 10_000; // permits two lines again, and no more
    for (const event of ["g", "h", "i", "j"]) log.add(event);
    assert.deepEqual(lines.splice(0), ["g", "h"]);
  }
  assert.deepEqual(lines, ["2 events of strangers, the last: j"]);
});

Deno.test("StrangerLog reports what was not reported although no event follows", async () => {
  const reported = Promise.withResolvers<string>(), first: string[] = [];
  using log = new StrangerLog(
    (line) => first.length < 1 ? first.push(line) : reported.resolve(line),
    {
      burstLines: 1,
      lineIntervalMs: 5,
    },
  );
  log.add("a");
  log.add("b");
  const keepAlive = setInterval(() => {}, 1_000); // the timer of the log does not
  assert.equal(await reported.promise, "b");
  clearInterval(keepAlive);
});

Deno.test("StrangerLog: a day of 10 events a second takes less than 160 lines", () => {
  let lines = 0, time = 0;
  using log = new StrangerLog(() => lines++, { now: () => time });
  for (; time < 86_400_000; time += 100) log.add("x");
  assert(lines > 100 && lines < 160, `${lines}`);
});
