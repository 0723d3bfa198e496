import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import type { StreamError } from "../streams/duplex.ts";
import type { Lane } from "../lane/lane.ts";
import { Session, type SessionOptions } from "./session.ts";
import { pipe } from "../../tests/pipe.ts";
import { eventLoopTurns } from "../../tests/event_loop.ts";

const never = new Promise<StreamError>(() => {});
/** As a lane is noticed to be silent in a test. */
const QUICK = { lookMs: 5, stallMs: 40 };

/** How a lane in memory goes wrong, after so many bytes from one end to the other. */
type Fault = "closed" | "silent" | "none";

/** Both ends of a lane in memory, which goes wrong in both directions once `after` bytes have gone. */
function laneInMemory(
  pieceBytes = 1_000,
  fault: Fault = "none",
  after = Infinity,
  wait = 0,
): [Lane, Lane] {
  const [a, b] = pipe(wait);
  let left = after, isBroken = false;
  const ends: Lane[] = [];
  const breakDown = () => {
    isBroken = true;
    if (fault === "closed") { for (const end of ends) end.close(); }
  };
  for (const side of [a, b]) {
    const reader = side.readable.getReader(), writer = side.writable.getWriter();
    writer.closed.catch(() => {});
    let isClosed = false;
    ends.push({
      kind: "TLS",
      remote: "192.0.2.1:1",
      read: async () => (await reader.read()).value,
      async write(bytes) {
        for (let at = 0; at < bytes.length; at += pieceBytes) {
          if (isClosed) throw new Error("it is closed");
          const piece = bytes.slice(at, at + Math.min(pieceBytes, left));
          if (piece.length > 0 && !isBroken) await writer.write(piece);
          left -= piece.length;
          if (left <= 0 && !isBroken) breakDown();
          if (isBroken && fault === "silent") await new Promise(() => {});
        }
      },
      close() {
        isClosed = true;
        reader.cancel().catch(() => {});
        writer.abort(new Error("cut")).catch(() => {});
      },
    });
  }
  return ends as [Lane, Lane];
}

/** Two ends of a session. */
function makeSides(wait: number, options: SessionOptions = {}): [Session, Session] {
  const [left, right] = pipe(wait);
  return [left, right].map((stream) => {
    const session = new Session(stream, never, options);
    session.markAuthenticated();
    return session;
  }) as [Session, Session];
}

async function send(to: WritableStream<Uint8Array>, chunks: readonly Uint8Array[], wait: number) {
  const writer = to.getWriter();
  for (const chunk of chunks) {
    await eventLoopTurns(wait);
    await writer.write(chunk);
  }
  await writer.close();
}

async function receive(session: Session, wait: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of session.readable) {
    await eventLoopTurns(wait);
    parts.push(Uint8Array.from(part));
    session.release(part);
  }
  return Buffer.concat(parts);
}

const chunk = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 200 }),
  fc.tuple(fc.integer({ min: 1, max: 120_000 }), fc.nat(255)).map(([length, seed]) =>
    Uint8Array.from({ length }, (_, i) => seed + i * 7 + (i >> 8))
  ),
);
const chunks = fc.array(chunk, { maxLength: 20 });
const wait = fc.nat(2);
const lane = fc.record({
  pieceBytes: fc.oneof(fc.integer({ min: 100, max: 300 }), fc.integer({ min: 1_000, max: 50_000 })),
  fault: fc.constantFrom<Fault>("none", "closed", "silent"),
  after: fc.oneof(fc.nat(300), fc.nat(200_000)),
  wait,
  /** When each end takes it up, in turns of the event loop. */
  turns: fc.tuple(fc.nat(15), fc.nat(15)),
});

Deno.test("Session: no byte is lost, doubled or out of order, whatever becomes of its lanes", async () => {
  const plan = fc.record({
    forth: chunks,
    back: chunks,
    homeWait: wait,
    sendWaits: fc.tuple(wait, wait),
    readWaits: fc.tuple(wait, wait),
    lanes: fc.array(lane, { minLength: 1, maxLength: 6 }),
  });
  const seen = { attached: 0, lost: 0 };
  await fc.assert(
    fc.asyncProperty(plan, async (plan) => {
      const onLaneLost = () => void seen.lost++;
      const [a, b] = makeSides(plan.homeWait, { ...QUICK, onLaneLost });
      const changing = async () => {
        for (const { pieceBytes, fault, after, wait, turns } of plan.lanes) {
          const ends = laneInMemory(pieceBytes, fault, after, wait);
          await Promise.all([a, b].map(async (session, i) => {
            await eventLoopTurns(turns[i]!);
            session.attachLane(ends[i]!);
            seen.attached++;
          }));
        }
      };
      const [atB, atA] = await Promise.all([
        receive(b, plan.readWaits[1]),
        receive(a, plan.readWaits[0]),
        send(a.writable, plan.forth, plan.sendWaits[0]),
        send(b.writable, plan.back, plan.sendWaits[1]),
        changing(),
      ]);
      assert.deepEqual(atB, Buffer.concat(plan.forth));
      assert.deepEqual(atA, Buffer.concat(plan.back));
      await Promise.all([a.detach(), b.detach()]);
    }),
    { numRuns: 100 },
  );
  assert(seen.lost > 20, `${seen.lost}`);
});

Deno.test("Session: a hundred megabytes each way over 300 lanes", async () => {
  const [a, b] = makeSides(1, QUICK);
  const data = randomBytes(1 << 20);
  let changes = 0, isDone = false;
  const changing = (async () => {
    while (!isDone) {
      const faults = ["none", "closed", "silent"] as const;
      const ends = laneInMemory(64_000, faults[changes % 3], Math.random() * 2_000_000, 1);
      a.attachLane(ends[0]);
      if (changes % 5 > 0) await eventLoopTurns(changes % 4);
      b.attachLane(ends[1]);
      changes++;
      await eventLoopTurns(3);
    }
  })();
  const sendAll = async (session: Session) => {
    const writer = session.writable.getWriter();
    for (let i = 0; i < 100 || changes < 300; i++) await writer.write(data);
    await writer.close();
  };
  const take = async (session: Session) => {
    let at = 0;
    for await (const part of session.readable) {
      for (let i = 0; i < part.length;) {
        const from = (at + i) % data.length, n = Math.min(part.length - i, data.length - from);
        assert.equal(Buffer.compare(part.subarray(i, i + n), data.subarray(from, from + n)), 0);
        i += n;
      }
      at += part.length;
      session.release(part);
    }
    return at;
  };
  const [x, y] = await Promise.all([take(a), take(b), sendAll(a), sendAll(b)]);
  isDone = true;
  await changing;
  assert(x >= 100 << 20 && y >= 100 << 20);
  await Promise.all([a.detach(), b.detach()]);
});
