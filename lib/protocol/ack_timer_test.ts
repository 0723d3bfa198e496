import assert from "node:assert/strict";
import { delay } from "../async/abort.ts";
import { AckTimer } from "./ack_timer.ts";
import { ReceiveHalf } from "./receive_half.ts";

const DELAY_MS = 60;
const never = new AbortController().signal;

Deno.test("AckTimer: an acknowledgement waits as long as the first one, if that went with data meanwhile", async () => {
  const receive = new ReceiveHalf(), due = Promise.withResolvers<number>();
  const timer = new AckTimer(receive, () => due.resolve(performance.now()), DELAY_MS);
  receive.onData(0, new Uint8Array(1));
  timer.set();
  await delay(DELAY_MS / 2, never);
  receive.ack();
  receive.onData(1, new Uint8Array(1));
  const setAt = performance.now();
  timer.set();
  timer.set();
  const waitedMs = await due.promise - setAt;
  assert(waitedMs >= DELAY_MS - 1, `${waitedMs} ms`); // a timer has whole milliseconds
});

Deno.test("AckTimer: is not due if all acknowledgements went with data, or if it is cleared", async () => {
  const receive = new ReceiveHalf();
  const timer = new AckTimer(receive, () => assert.fail("it is due"), 5);
  receive.onData(0, new Uint8Array(1));
  timer.set();
  receive.ack();
  await delay(10, never);
  receive.onData(1, new Uint8Array(1));
  timer.set();
  timer.clear();
  await delay(10, never);
});
