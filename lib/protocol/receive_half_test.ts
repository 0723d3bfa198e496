import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { ByteBudget } from "../streams/byte_budget.ts";
import { CreditWindow, INITIAL_WINDOW_BYTES } from "./credit.ts";
import { FrameError } from "./frames.ts";
import { ReceiveHalf } from "./receive_half.ts";

const LIMIT = INITIAL_WINDOW_BYTES;

/** A half that has received so many bytes. */
function halfWith(bytes: number): ReceiveHalf {
  const half = new ReceiveHalf();
  half.onData(0, new Uint8Array(bytes));
  return half;
}

function takeAll(half: ReceiveHalf): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (let piece; (piece = half.take());) {
    pieces.push(piece.slice());
    half.release(piece);
  }
  return Buffer.concat(pieces);
}

const part = fc.double({ min: 0, max: 1, noNaN: true });
const action = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("data"), part }) },
  fc.record({ kind: fc.constant("take") }),
  fc.record({ kind: fc.constant("ack") }),
  fc.record({ kind: fc.constant("restart"), part }),
);

Deno.test("ReceiveHalf: the reader gets each byte once and in order, whatever comes again", () => {
  const length = fc.integer({ min: 0, max: 3 * LIMIT });
  fc.assert(
    fc.property(length, fc.array(action, { maxLength: 60 }), (length, actions) => {
      const all = Uint8Array.from({ length }, (_, i) => i ^ (i >> 8));
      const window = new CreditWindow(new ByteBudget(1 << 30));
      window.mayGrow = true;
      const half = new ReceiveHalf(window), parts: Uint8Array[] = [];
      let next = 0, acknowledged = 0, limit = LIMIT;
      const send = (bytes: number) => {
        half.onData(next, all.slice(next, next + bytes));
        next += bytes;
      };
      const step = (action: typeof actions[number]) => {
        if (action.kind === "data") {
          send(Math.floor(action.part * (Math.min(length, limit) - next)));
        }
        if (action.kind === "take") parts.push(takeAll(half));
        if (action.kind === "ack") {
          const said = half.ack();
          assert(said.received >= acknowledged && said.limit >= limit);
          assert.equal(said.received, half.received);
          acknowledged = said.received;
          limit = said.limit;
          assert(!half.owesAck && !half.owesAckNow);
        }
        if (action.kind === "restart") {
          half.restart();
          next = Math.floor(action.part * acknowledged);
        }
        assert(half.waiting <= window.bytes);
        assert(half.waiting + Buffer.concat(parts).length === half.received);
      };
      actions.forEach(step);
      while (next < length) {
        for (const kind of ["take", "ack"] as const) step({ kind });
        step({ kind: "data", part: 1 });
      }
      half.onEnd(length);
      parts.push(takeAll(half));
      assert.equal(Buffer.compare(Buffer.concat(parts), all), 0);
      assert.deepEqual(half.ack().received, length + 1);
    }),
    { numRuns: 100 },
  );
});

Deno.test("ReceiveHalf refuses data that would leave a gap, or goes beyond what was granted", () => {
  assert.throws(() => halfWith(10).onData(11, new Uint8Array(1)), FrameError);
  assert.throws(() => halfWith(10).onData(10, new Uint8Array(LIMIT - 9)), FrameError);
  const full = halfWith(LIMIT);
  takeAll(full); // which the sender has not been told
  assert.throws(() => full.onData(LIMIT, new Uint8Array(1)), FrameError);
  full.ack();
  full.onData(LIMIT, new Uint8Array(LIMIT));
  assert.throws(() => full.onData(2 * LIMIT, new Uint8Array(1)), FrameError);
});

Deno.test("ReceiveHalf refuses what comes after the end", () => {
  const makers = { reading: () => halfWith(10), stopped: () => halfWith(10) };
  for (const [name, make] of Object.entries(makers)) {
    const ended = () => {
      const half = make();
      if (name === "stopped") half.stop();
      half.onEnd(10);
      return half;
    };
    assert.throws(() => ended().onData(10, new Uint8Array(1)), FrameError, name);
    assert.throws(() => ended().onData(0, new Uint8Array(1)), FrameError, name);
    assert.throws(() => ended().onEnd(10), FrameError, name);
  }
});

Deno.test("ReceiveHalf: on another carrier the end may come again, with what was before it", () => {
  const half = halfWith(10);
  half.onEnd(10);
  half.restart();
  half.onData(4, new Uint8Array(6));
  half.onEnd(10);
  half.restart();
  assert.throws(() => half.onData(4, new Uint8Array(7)), FrameError); // more than there was
  half.restart();
  for (const total of [9, 11]) assert.throws(() => half.onEnd(total), FrameError);
  assert.equal(takeAll(half).length, 10);
});

Deno.test("ReceiveHalf refuses an end that is not where the data ends", () => {
  for (const total of [9, 11]) assert.throws(() => halfWith(10).onEnd(total), FrameError);
});

Deno.test("ReceiveHalf owes an acknowledgement at once for 256 KiB, a quarter of the window, and the end", () => {
  const half = halfWith(LIMIT / 4 - 1);
  assert.deepEqual([half.owesAck, half.owesAckNow], [true, false]);
  half.onData(LIMIT / 4 - 1, new Uint8Array(1));
  assert.equal(half.owesAckNow, true);
  assert.deepEqual(half.ack(), { received: LIMIT / 4, limit: LIMIT });
  assert.deepEqual([half.owesAck, half.owesAckNow], [false, false]);
  takeAll(half); // so there is credit to be granted
  assert.equal(half.owesAckNow, true);
  assert.deepEqual(half.ack(), { received: LIMIT / 4, limit: LIMIT + LIMIT / 4 });
  half.onEnd(LIMIT / 4);
  assert.equal(half.owesAckNow, true);
  assert.equal(half.ack().received, LIMIT / 4 + 1);

  const large = new ReceiveHalf();
  large.window.bytes = 8 << 20;
  large.ack();
  large.onData(0, new Uint8Array(256 * 1024 - 1));
  assert.equal(large.owesAckNow, false);
  large.onData(256 * 1024 - 1, new Uint8Array(1));
  assert.equal(large.owesAckNow, true);
});

Deno.test("ReceiveHalf owes no credit after the end", () => {
  const half = halfWith(1_000);
  half.onEnd(1_000);
  half.ack();
  takeAll(half);
  assert.equal(half.owesAck, false);
});

Deno.test("ReceiveHalf whose reader wants nothing further drops what comes, until the end", () => {
  const half = halfWith(100);
  half.ack();
  assert.equal(half.stop(), true);
  assert.equal(half.waiting, 0);
  half.onData(500, new Uint8Array(LIMIT)); // what was left out does not matter
  assert.deepEqual([half.received, half.waiting, half.owesAck, half.state], [
    100,
    0,
    false,
    "stopped",
  ]);
  assert.equal(half.stop(), false);
  assert.equal(half.state, "stopped");
  half.onEnd(1_000);
  assert.deepEqual([half.state, half.received, half.hasEnded], ["done", 100, true]);
  assert.deepEqual([half.owesAckNow, half.ack().received], [true, 1_001]);
  half.restart();
  half.onEnd(1_000);
  assert.equal(half.ack().received, 1_001);
});

Deno.test("ReceiveHalf refuses an end before what has come, also when it is read no further", () => {
  const half = halfWith(100);
  half.stop();
  assert.throws(() => half.onEnd(99), FrameError);
});

Deno.test("ReceiveHalf whose reader wants nothing further after the end need not say so", () => {
  const half = halfWith(100);
  half.onEnd(100);
  assert.equal(half.stop(), false);
  assert.deepEqual([half.state, half.waiting], ["done", 0]);
});

Deno.test("ReceiveHalf gives its credit back when its reader wants nothing further", () => {
  const budget = new ByteBudget(LIMIT), window = new CreditWindow(budget);
  window.mayGrow = true;
  const half = new ReceiveHalf(window);
  half.onData(0, new Uint8Array(LIMIT));
  takeAll(half);
  assert.equal(window.bytes, 2 * LIMIT);
  half.stop();
  assert(budget.take(LIMIT));
});
