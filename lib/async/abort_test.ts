import assert from "node:assert/strict";
import { delayWhileRunning, RunningTimeout } from "./abort.ts";
import { standStill } from "../../tests/event_loop.ts";

const never = new AbortController().signal;

Deno.test("delayWhileRunning() does not count the time in which the process stood still", async () => {
  let isEnded = false;
  const ended = delayWhileRunning(100, never).then(() => isEnded = true);
  standStill(300);
  await new Promise((resolve) => setTimeout(resolve, 40));
  assert.equal(isEnded, false);
  await ended;
});

Deno.test("RunningTimeout expires after its time and no sooner, with its reason", async () => {
  const reason = new Error("too late"), before = performance.now();
  using limit = new RunningTimeout(100, reason, never);
  await new Promise((resolve) => limit.signal.addEventListener("abort", resolve));
  assert.equal(limit.signal.reason, reason);
  assert(performance.now() - before >= 100);
});

Deno.test("RunningTimeout aborts with another signal, and never expires once disposed of", async () => {
  const controller = new AbortController(), late = new Error("too late");
  using one = new RunningTimeout(60_000, late, never, controller.signal);
  const other = new RunningTimeout(20, late);
  other[Symbol.dispose]();
  await delayWhileRunning(60, never);
  assert.equal(one.signal.aborted, false);
  assert.equal(other.signal.aborted, false);
  const reason = new Error("enough");
  controller.abort(reason);
  assert.equal(one.signal.reason, reason);
});
