import assert from "node:assert/strict";
import { AwakeLimit, delayAwake } from "./abort.ts";
import { standStill } from "../../tests/turns.ts";

const never = new AbortController().signal;

Deno.test("delayAwake() does not count the time in which the process stood still", async () => {
  let isOver = false;
  const over = delayAwake(100, never).then(() => isOver = true);
  standStill(300);
  await new Promise((resolve) => setTimeout(resolve, 40));
  assert.equal(isOver, false);
  await over;
});

Deno.test("AwakeLimit: is reached, not too early, with its reason", async () => {
  const reason = new Error("too late"), before = performance.now();
  using limit = new AwakeLimit(100, reason, never);
  await new Promise((resolve) => limit.signal.addEventListener("abort", resolve));
  assert.equal(limit.signal.reason, reason);
  assert(performance.now() - before >= 100);
});

Deno.test("AwakeLimit: ends with another signal, and not at all once it is disposed of", async () => {
  const controller = new AbortController(), late = new Error("too late");
  using one = new AwakeLimit(60_000, late, never, controller.signal);
  const other = new AwakeLimit(20, late);
  other[Symbol.dispose]();
  await delayAwake(60, never);
  assert.equal(one.signal.aborted, false);
  assert.equal(other.signal.aborted, false);
  const reason = new Error("enough");
  controller.abort(reason);
  assert.equal(one.signal.reason, reason);
});
