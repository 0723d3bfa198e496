import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES } from "./credit.ts";
import { FrameError } from "./frames.ts";
import { type NextFrame, SendHalf } from "./send_half.ts";

const LIMIT = INITIAL_WINDOW_BYTES;

/** A half with so much written, of which all is sent. */
function sentHalf(bytes = 100): SendHalf {
  const half = new SendHalf();
  half.write(new Uint8Array(bytes));
  sendAll(half);
  return half;
}

function sendAll(half: SendHalf): NextFrame[] {
  const frames: NextFrame[] = [];
  for (let next; (next = half.next(1 << 20));) frames.push(next);
  half.endWrite();
  return frames;
}

function byteAt(offset: number): number {
  return (offset ^ (offset >> 8)) & 0xff;
}

const action = fc.oneof(
  fc.record({ kind: fc.constant("write"), bytes: fc.oneof(fc.nat(500), fc.nat(300_000)) }),
  fc.record({ kind: fc.constant("send"), most: fc.oneof(fc.nat(300), fc.nat(300_000)) }),
  fc.record({ kind: fc.constant("arrive"), count: fc.nat(20) }),
  fc.record({ kind: fc.constant("ack"), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
  fc.record({ kind: fc.constant("grant"), bytes: fc.nat(400_000) }),
  fc.record({ kind: fc.constant("restart") }),
);

Deno.test("SendHalf: what the receiver has is what was written, however often it is sent", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80 }), fc.boolean(), (actions, ends) => {
      const half = new SendHalf();
      /** What has come, and what is on its way on the present carrier. */
      let received = 0, hasEnded = false, limit = LIMIT;
      const onItsWay: NextFrame[] = [];
      const arrive = () => {
        const next = onItsWay.shift();
        if (next?.kind === "end") {
          assert.equal(next.total, received);
          hasEnded = true;
        } else if (next) {
          assert(next.offset <= received, "a gap");
          assert(next.data.every((byte, i) => byte === byteAt(next.offset + i)));
          received = Math.max(received, next.offset + next.data.length);
        }
      };
      const total = () => received + (hasEnded ? 1 : 0);
      for (const action of actions) {
        switch (action.kind) {
          case "write": {
            const length = Math.min(action.bytes, half.room);
            const from = half.written;
            half.write(Uint8Array.from({ length }, (_, i) => byteAt(from + i)));
            assert(half.written <= limit);
            break;
          }
          case "send": {
            const next = half.next(Math.max(1, action.most));
            if (!next) {
              assert(half.isSent);
              break;
            }
            if (next.kind === "data") {
              assert(next.data.length > 0 && next.data.length <= Math.max(1, action.most));
              onItsWay.push({ ...next, data: next.data.slice() });
            } else onItsWay.push(next);
            break;
          }
          case "arrive":
            for (let i = 0; i < action.count; i++) arrive();
            break;
          case "ack": {
            const { acknowledged } = half;
            half.onAck(acknowledged + Math.floor(action.part * (total() - acknowledged)), limit);
            break;
          }
          case "grant":
            limit += action.bytes;
            half.onAck(half.acknowledged, limit);
            break;
          case "restart":
            onItsWay.length = 0;
            half.restart();
        }
        assert.equal(half.isInFlight, half.acknowledged < half.written);
      }
      if (ends) half.end();
      onItsWay.push(...sendAll(half));
      while (onItsWay.length > 0) arrive();
      assert.deepEqual([received, hasEnded], [half.written, ends]);
      half.onAck(total(), limit);
      assert.deepEqual([half.isInFlight, half.state], [false, ends ? "done" : "open"]);
    }),
    { numRuns: 200 },
  );
});

Deno.test("SendHalf keeps what is not acknowledged, and sends it again on another carrier", () => {
  const half = sentHalf(100);
  half.onAck(40, LIMIT);
  assert.deepEqual(sendAll(half), []);
  half.restart();
  half.end();
  const [data, end] = sendAll(half);
  assert.deepEqual(data, { kind: "data", offset: 40, data: new Uint8Array(60) });
  assert.deepEqual(end, { kind: "end", total: 100 });
  half.restart();
  assert.equal(sendAll(half).length, 2);
  half.onAck(100, LIMIT);
  assert.deepEqual([half.state, half.isInFlight], ["ended", true]);
  half.restart();
  assert.deepEqual(sendAll(half), [{ kind: "end", total: 100 }]);
  half.onAck(101, LIMIT);
  assert.deepEqual([half.state, half.isInFlight, half.isSent], ["done", false, true]);
  half.restart();
  assert.deepEqual(sendAll(half), []);
});

Deno.test("SendHalf does not send what was acknowledged by the carrier before", () => {
  const half = sentHalf(100);
  half.restart();
  half.onAck(70, LIMIT);
  assert.deepEqual(sendAll(half), [{ kind: "data", offset: 70, data: new Uint8Array(30) }]);
});

Deno.test("SendHalf: data stays as it is while it is written, whatever is acknowledged", () => {
  const half = new SendHalf();
  half.write(new Uint8Array(LIMIT).fill(1));
  sendAll(half);
  half.restart();
  const next = half.next(LIMIT);
  half.onAck(LIMIT, 3 * LIMIT);
  half.write(new Uint8Array(LIMIT).fill(2));
  assert(next?.kind === "data" && next.data.length === LIMIT);
  assert(next.data.every((byte) => byte === 1));
  half.onStop();
  assert.equal(next.data.length, LIMIT);
});

Deno.test("SendHalf takes as much as was granted", () => {
  const half = new SendHalf();
  assert.equal(half.room, 256 * 1024);
  half.write(new Uint8Array(half.room));
  assert.equal(half.room, 0);
  half.onAck(0, LIMIT + 5);
  assert.equal(half.room, 5);
});

Deno.test("SendHalf keeps no more than any receiver needs, however much is granted", () => {
  const half = new SendHalf();
  half.onAck(0, Number.MAX_SAFE_INTEGER);
  for (let room; (room = half.room) > 0;) half.write(new Uint8Array(room));
  assert.equal(half.written, MAX_WINDOW_BYTES);
  sendAll(half);
  half.onAck(1_000, Number.MAX_SAFE_INTEGER);
  assert.equal(half.room, 1_000);
});

Deno.test("SendHalf refuses acknowledgements of what was not sent, and less than before", () => {
  const unsent = new SendHalf();
  unsent.write(new Uint8Array(10));
  assert.throws(() => unsent.onAck(1, LIMIT), FrameError); // written, and not sent
  unsent.next(4);
  assert.throws(() => unsent.onAck(5, LIMIT), FrameError);
  unsent.onAck(4, LIMIT);
  unsent.end();
  sendAll(unsent);
  assert.throws(() => unsent.onAck(12, LIMIT), FrameError);
  assert.throws(() => unsent.onAck(3, LIMIT), FrameError);
  unsent.onAck(11, LIMIT);
  assert.throws(() => unsent.onAck(12, LIMIT), FrameError); // also when all is done
  const withoutEnd = sentHalf(10);
  assert.throws(() => withoutEnd.onAck(11, LIMIT), FrameError);
  withoutEnd.end();
  assert.throws(() => withoutEnd.onAck(11, LIMIT), FrameError); // it has not been sent
});

Deno.test("SendHalf: what was sent on an earlier carrier may be acknowledged", () => {
  const half = sentHalf(10);
  half.restart();
  half.onAck(10, LIMIT);
  assert.equal(half.isInFlight, false);
});

Deno.test("SendHalf refuses credit that shrinks", () => {
  const half = sentHalf();
  half.onAck(0, LIMIT + 1);
  assert.throws(() => half.onAck(0, LIMIT), FrameError);
  assert.throws(() => new SendHalf().onAck(0, LIMIT - 1), FrameError);
});

for (const sent of [0, 50, 100]) {
  Deno.test(`SendHalf: a receiver that reads no further is sent the end alone, after ${sent} bytes`, () => {
    const half = new SendHalf();
    half.write(new Uint8Array(100));
    if (sent > 0) half.next(sent);
    half.endWrite();
    half.onStop();
    assert.deepEqual([half.isStopped, half.state, half.room > 0], [true, "ended", true]);
    half.write(new Uint8Array(7)); // which is not read
    assert.deepEqual(sendAll(half), [{ kind: "end", total: 100 }]);
    half.onStop(); // repeated on another carrier
    assert.deepEqual(sendAll(half), []);
    half.restart();
    assert.deepEqual(sendAll(half), [{ kind: "end", total: 100 }]);
    half.onAck(Math.min(sent, 60), LIMIT); // it counts what it had before
    assert.equal(half.state, "ended");
    half.onAck(101, LIMIT);
    assert.equal(half.state, "done");
    half.onStop();
    assert.equal(half.state, "done");
  });
}

Deno.test("SendHalf: an end that was sent before is not sent twice to a receiver that stops", () => {
  const half = sentHalf(100);
  half.end();
  assert.equal(sendAll(half).length, 1);
  half.onStop();
  assert.deepEqual(sendAll(half), []);
});

Deno.test("SendHalf copies what it is given", () => {
  const half = new SendHalf(), bytes = new Uint8Array([1, 2, 3]);
  half.write(bytes);
  bytes.fill(9);
  const [next] = sendAll(half);
  assert(next?.kind === "data");
  assert.deepEqual(Buffer.from(next.data), Buffer.from([1, 2, 3]));
});
