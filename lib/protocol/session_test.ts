import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { Transport } from "../lane/lane.ts";
import { LaneControl } from "../lane/lane_control.ts";
import { Lane } from "../lane/lane.ts";
import { SignalingStream } from "../lane/signaling.ts";
import { Session } from "./session.ts";
import { pipe } from "../../tests/pipe.ts";
import { eventLoopTurns } from "../../tests/event_loop.ts";

/** Both ends of a lane in memory. It holds no more than one piece; `cut` ends it like a cable. */
function laneInMemory(wait: number, pieceBytes: number): [Transport, Transport] {
  const [a, b] = pipe(wait);
  return [a, b].map((side) => {
    const reader = side.readable.getReader(), writer = side.writable.getWriter();
    writer.closed.catch(() => {});
    return {
      kind: "TLS" as const,
      remote: "memory",
      read: async () => (await reader.read()).value,
      async write(bytes: Uint8Array) {
        for (let at = 0; at < bytes.length; at += pieceBytes) {
          await writer.write(bytes.slice(at, at + pieceBytes));
        }
      },
      close() {
        reader.cancel().catch(() => {});
        writer.abort(new Error("cut")).catch(() => {});
      },
    };
  }) as [Transport, Transport];
}

interface Side {
  session: Session;
  close(error: StreamError): void;
  control?: LaneControl;
}

/** Two ends of a session, and what is needed to make a lane for it. */
function makeSides(wait: number, progressMs = 20) {
  const [left, right] = pipe(wait), [leftTalk, rightTalk] = pipe(wait);
  const side = (stream: Duplex): Side => {
    const { promise, resolve } = Promise.withResolvers<StreamError>();
    return { session: new Session(stream, promise), close: resolve };
  };
  const a = side(left), b = side(right);
  return {
    a,
    b,
    migrate(lanes: readonly [Transport, Transport], which: "a" | "b"): Promise<void> {
      const [side, transport, talk] = which === "a"
        ? [a, lanes[0], leftTalk] as const
        : [b, lanes[1], rightTalk] as const;
      side.control = new LaneControl(
        new Lane(transport),
        new SignalingStream(talk),
        side.session,
        progressMs,
      );
      return side.session.migrateTo(side.control);
    },
    [Symbol.dispose]() {
      for (const { control } of [a, b]) control?.[Symbol.dispose]();
    },
  };
}

async function send(to: WritableStream<Uint8Array>, chunks: readonly Uint8Array[], wait: number) {
  const writer = to.getWriter();
  for (const chunk of chunks) {
    await eventLoopTurns(wait);
    await writer.write(chunk);
  }
  await writer.close();
}

/** Reads to the end, and gives the memory back as whoever passes bytes on does. */
async function receive(session: Session, wait: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of session.readable) {
    await eventLoopTurns(wait);
    parts.push(Uint8Array.from(part));
    session.release(part);
  }
  return Buffer.concat(parts);
}

/** Some large, so that many make up what is handed over in one piece. */
const chunk = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 200 }),
  fc.tuple(fc.integer({ min: 1, max: 60_000 }), fc.nat(255)).map(([length, seed]) =>
    Uint8Array.from({ length }, (_, i) => seed + i * 7 + (i >> 8))
  ),
);
const chunks = fc.array(chunk, { maxLength: 20 });
const wait = fc.nat(2);

Deno.test("Session: no byte is lost, doubled or out of order, whenever it moves to a lane", async () => {
  const plan = fc.record({
    forth: chunks,
    back: chunks,
    streamWait: wait,
    laneWait: wait,
    sendWaits: fc.tuple(wait, wait),
    readWaits: fc.tuple(wait, wait),
    /** When each side hears of the lane, in turns of the event loop. */
    migrateAfter: fc.tuple(fc.nat(30), fc.nat(30)),
    pieceBytes: fc.oneof(
      fc.integer({ min: 100, max: 300 }),
      fc.integer({ min: 1_000, max: 50_000 }),
    ),
  });
  let inTheMiddle = 0;
  await fc.assert(
    fc.asyncProperty(plan, async (plan) => {
      using sides = makeSides(plan.streamWait);
      const { a, b } = sides;
      const lanes = laneInMemory(plan.laneWait, plan.pieceBytes);
      const total = Buffer.concat(plan.forth).length;
      const migrate = async (which: "a" | "b", after: number) => {
        await eventLoopTurns(after);
        if (which === "a" && a.session.sent > 0 && a.session.sent < total) inTheMiddle++;
        await sides.migrate(lanes, which);
      };
      const [atB, atA] = await Promise.all([
        receive(b.session, plan.readWaits[1]),
        receive(a.session, plan.readWaits[0]),
        send(a.session.writable, plan.forth, plan.sendWaits[0]),
        send(b.session.writable, plan.back, plan.sendWaits[1]),
        migrate("a", plan.migrateAfter[0]),
        migrate("b", plan.migrateAfter[1]),
      ]);
      assert.deepEqual(atB, Buffer.concat(plan.forth));
      assert.deepEqual(atA, Buffer.concat(plan.back));
    }),
    { numRuns: 150 },
  );
  assert(inTheMiddle > 20, `${inTheMiddle}`);
});

Deno.test("Session: a lane that is cut, also while it is moved to, is never taken for the end", async () => {
  const when = fc.nat(30);
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 40 }),
      when,
      when,
      when,
      async (count, a, b, cut) => {
        using sides = makeSides(0);
        const lanes = laneInMemory(0, 100);
        const data = randomBytes(count * 50);
        const came: Uint8Array[] = [];
        const reading = (async () => {
          for await (const chunk of sides.b.session.readable) came.push(chunk.slice());
        })();
        const writer = sides.a.session.writable.getWriter();
        writer.closed.catch(() => {});
        const writing = (async () => {
          for (let at = 0; at < data.length; at += 50) {
            await writer.write(
              data.subarray(at, at + 50),
            );
          }
        })();
        writing.catch(() => {}); // the lane is cut
        const moving = Promise.allSettled([
          eventLoopTurns(a).then(() => sides.migrate(lanes, "a")),
          eventLoopTurns(b).then(() => sides.migrate(lanes, "b")),
          eventLoopTurns(cut).then(() => lanes.forEach((lane) => lane.close())),
        ]);
        await assert.rejects(
          reading,
          (error) => error instanceof StreamError && error.kind === "lost",
        );
        await moving;
        const received = Buffer.concat(came);
        assert.equal(Buffer.compare(received, data.subarray(0, received.length)), 0);
      },
    ),
    { numRuns: 20 },
  );
});

Deno.test("Session: the end of the stream, or of an orderly connection, is not the end of the data", async () => {
  const [left, right] = pipe();
  const session = new Session(right, new Promise(() => {}));
  const writer = left.writable.getWriter();
  await writer.write(Uint8Array.of(0, 0, 0, 3, 1, 2)); // and one more byte would follow
  writer.close().catch(() => {});
  await assert.rejects(receive(session, 0), { name: "StreamError", kind: "reset" });

  const again = makeSides(0);
  const reading = receive(again.b.session, 0);
  again.b.close(new StreamError("lost", "the peer has vanished"));
  await assert.rejects(Promise.race([reading, nextFailure(again.b.session)]), StreamError);
});

/** What a write gives at last. */
async function nextFailure(session: Session): Promise<void> {
  const writer = session.writable.getWriter();
  for (;;) {
    await writer.write(Uint8Array.of(1));
    await eventLoopTurns(1);
  }
}

Deno.test("Session: a lane ends with the connection, however orderly, and not as the data does", async () => {
  using sides = makeSides(0);
  const lanes = laneInMemory(3, 10);
  const writing = nextFailure(sides.a.session);
  const got = receive(sides.b.session, 1);
  const failed = assert.rejects(got, { name: "StreamError", kind: "lost" });
  await Promise.all([sides.migrate(lanes, "a"), sides.migrate(lanes, "b")]);
  for (const side of [sides.a, sides.b]) {
    side.close(new StreamError("closed", "the connection was closed"));
  }
  await Promise.all([failed, assert.rejects(writing, { name: "StreamError", kind: "closed" })]);
});

Deno.test("Session: who takes no more stops the other end, by a lane, too", async () => {
  using sides = makeSides(0);
  const lanes = laneInMemory(0, 100);
  const writing = nextFailure(sides.a.session);
  const reader = sides.b.session.readable.getReader();
  await Promise.all([reader.read(), sides.migrate(lanes, "a"), sides.migrate(lanes, "b")]);
  for (let i = 0; i < 20; i++) await reader.read(); // by which time it comes by the lane
  await reader.cancel();
  await assert.rejects(writing, { name: "StreamError", kind: "reset" });
});

Deno.test("Session: who takes no more while it waits is not taken for a lane that is dead", async () => {
  using sides = makeSides(0, 5);
  const lanes = laneInMemory(0, 100);
  await Promise.all([sides.migrate(lanes, "a"), sides.migrate(lanes, "b")]);
  const { a, b } = sides, reader = b.session.readable.getReader();
  const waiting = reader.read();
  await eventLoopTurns(5); // it waits for the lane
  const crossing = a.session.writable.getWriter().write(new Uint8Array(10));
  crossing.catch(() => {}); // it may be told before that nobody wants it
  await reader.cancel();
  assert.equal((await waiting).done, true);
  const data = Array.from({ length: 30 }, () => new Uint8Array(10));
  const [got] = await Promise.all([
    receive(a.session, 0),
    (async () => {
      const writer = b.session.writable.getWriter();
      for (const chunk of data) {
        await writer.write(chunk);
        await new Promise((resolve) => setTimeout(resolve, 5)); // many times the limit in all
      }
      await writer.close();
    })(),
  ]);
  assert.equal(got.length, 300);
});

Deno.test("Session: a lane that carries nothing any more is noticed", async () => {
  using sides = makeSides(0, 5);
  const lanes = laneInMemory(0, 100);
  // As by a cable that is cut: what is being sent never arrives, and is not refused either.
  const swallowed: Transport = {
    ...lanes[0],
    write: () => new Promise(() => {}), // not even when it is closed, as Deno's
  };
  const reading = receive(sides.b.session, 0);
  await Promise.all([sides.migrate([swallowed, lanes[1]], "a"), sides.migrate(lanes, "b")]);
  await assert.rejects(
    Promise.race([reading, nextFailure(sides.a.session)]),
    /the direct connection carries nothing any more/,
  );
  lanes[0].close();
  await assert.rejects(reading, StreamError);
});

Deno.test("Session: a lane whose reader stands still is waited for", async () => {
  using sides = makeSides(0, 5);
  const lanes = laneInMemory(0, 100);
  const reader = sides.b.session.readable.getReader();
  const first = reader.read();
  const data = new Uint8Array(5_000);
  const sending = send(sides.a.session.writable, [data, data], 0);
  await Promise.all([sides.migrate(lanes, "a"), sides.migrate(lanes, "b")]);
  let got = (await first).value!.length;
  await new Promise((resolve) => setTimeout(resolve, 100)); // many times the limit for what is lost
  for (let next; !(next = await reader.read()).done;) got += next.value.length;
  assert.equal(got, 10_000);
  await sending;
});

Deno.test("Session: at its end says why the stream has failed", async () => {
  const lost = new StreamError("lost", "the peer is gone");
  const [left] = pipe();
  const session = new Session({
    readable: left.readable,
    writable: new WritableStream({
      write(_chunk, controller) {
        controller.error(lost); // with what was just written, the end
      },
    }),
  }, new Promise(() => {}));
  await session.readable.cancel(); // so that nothing but the writing tells
  await assert.rejects(session.writable.getWriter().close(), lost);
});
