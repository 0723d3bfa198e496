import assert from "node:assert/strict";
import { delayWhileRunning, LinkedSignal, RunningTimeout } from "./abort.ts";
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

Deno.test("delayWhileRunning() takes little longer on a busy machine if its ticks may", async () => {
  let isEnded = false, ticks = 0;
  const time = { milliseconds: 1_000, maxTickMs: 100 };
  const ended = delayWhileRunning(time, never).then(() => isEnded = true);
  for (; !isEnded; ticks++) {
    standStill(40); // other programs have the processor, for this long at least
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await ended;
  assert(ticks < 40, `${ticks} ticks`); // and 84 if each counted for 12 ms
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

Deno.test("LinkedSignal aborts with the first of its signals, also one that has aborted before", () => {
  const [one, other] = [new AbortController(), new AbortController()];
  using linked = new LinkedSignal([one.signal, other.signal]);
  other.abort("first");
  one.abort("second");
  assert.equal(linked.signal.reason, "first");
  using late = new LinkedSignal([never, one.signal]);
  assert.equal(late.signal.reason, "second");
});

Deno.test("LinkedSignal aborts after its time, with its reason", async () => {
  using linked = new LinkedSignal([never], { milliseconds: 1, reason: "too late" });
  await new Promise((resolve) => linked.signal.addEventListener("abort", resolve));
  assert.equal(linked.signal.reason, "too late");
});

Deno.test("LinkedSignal leaves nothing at its signals once it is disposed of", () => {
  const controller = new AbortController(), { signal } = controller;
  let listeners = 0;
  const add = signal.addEventListener.bind(signal),
    remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => (listeners++, add(...args));
  signal.removeEventListener = (
    ...args: Parameters<typeof remove>
  ) => (listeners--, remove(...args));
  const linked = new LinkedSignal([signal], { milliseconds: 60_000 });
  assert.equal(listeners, 1);
  linked[Symbol.dispose]();
  assert.equal(listeners, 0);
  controller.abort();
  assert.equal(linked.signal.aborted, false);
});
