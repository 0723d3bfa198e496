import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import type { StreamError } from "../streams/duplex.ts";
import { Session, type SessionOptions } from "./session.ts";
import {
  type DirectionOptions,
  memoryLane,
  memoryStream,
  turns,
} from "../../tests/memory_carriers.ts";

const never = new Promise<StreamError>(() => {});
/** Limits after which a lane is taken for silent, in a test. */
const QUICK = { lookMs: 2, stallMs: 10 };

/** Two ends of a session. */
function makeSides(home: DirectionOptions, options: SessionOptions = {}): [Session, Session] {
  return memoryStream(home).map((stream) => {
    const session = new Session(stream, never, options);
    session.markAuthenticated();
    return session;
  }) as [Session, Session];
}

async function send(to: WritableStream<Uint8Array>, chunks: readonly Uint8Array[], wait: number) {
  const writer = to.getWriter();
  for (const chunk of chunks) {
    await turns(wait);
    const copy = chunk.slice();
    await writer.write(copy);
    copy.fill(0); // the session has its own
  }
  await writer.close();
}

async function receive(session: Session, wait: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of session.readable) {
    await turns(wait);
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
const wait = fc.nat(3);
const pieceBytes = fc.oneof(
  fc.integer({ min: 100, max: 300 }),
  fc.integer({ min: 1_000, max: 50_000 }),
);
/** At any byte, of the first frames or later. */
const after = fc.oneof(fc.nat(300), fc.nat(20_000), fc.nat(200_000));
const direction = fc.record({
  pieceBytes,
  fault: fc.constantFrom("none", "none", "closed", "silent"),
  after,
  wait: fc.oneof({ weight: 3, arbitrary: wait }, fc.nat(40)),
});
const lane = fc.record({
  forth: direction,
  back: direction,
  /** When each end takes it up, in turns of the event loop, if it does. */
  turns: fc.tuple(fc.option(fc.nat(40), { freq: 6 }), fc.option(fc.nat(40), { freq: 6 })),
});
const plan = fc.record({
  forth: chunks,
  back: chunks,
  home: fc.record({ wait, pieceBytes }),
  sendWaits: fc.tuple(wait, wait),
  readWaits: fc.tuple(wait, wait),
  lanes: fc.array(lane, { minLength: 1, maxLength: 6 }),
});

Deno.test("Session: no byte is lost, doubled or out of order, whatever becomes of its lanes", async () => {
  let lost = 0;
  await fc.assert(
    fc.asyncProperty(plan, async (plan) => {
      const [a, b] = makeSides(plan.home, { ...QUICK, onLaneLost: () => void lost++ });
      const lanes = plan.lanes.map(({ forth, back }) => memoryLane(forth, back));
      const changing = async () => {
        for (const [i, ends] of lanes.entries()) {
          await Promise.all([a, b].map(async (session, side) => {
            const when = plan.lanes[i]!.turns[side];
            if (when === null) return;
            await turns(when!);
            session.attachLane(ends[side]!);
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
      const forth = Buffer.concat(plan.forth), back = Buffer.concat(plan.back);
      assert(Buffer.compare(atB, forth) === 0 && Buffer.compare(atA, back) === 0);
      assert.deepEqual([a.sent, b.received], [forth.length, forth.length]);
      assert.deepEqual([b.sent, a.received], [back.length, back.length]);
      assert.deepEqual([a.isInFlight, b.isInFlight], [false, false]);
      await Promise.all([a.detach(), b.detach()]);
      for (const [i, ends] of lanes.entries()) {
        for (const [side, when] of plan.lanes[i]!.turns.entries()) {
          assert.equal(ends[side]!.isClosed, when !== null);
        }
      }
    }),
    { numRuns: 100 },
  );
  assert(lost > 20, `${lost}`);
});

Deno.test("Session: a hundred megabytes each way over 300 lanes", async () => {
  const [a, b] = makeSides({ wait: 1 }, QUICK);
  const data = randomBytes(1 << 20);
  let changes = 0, isDone = false;
  const changing = (async () => {
    while (!isDone) {
      const faults = ["none", "closed", "silent"] as const;
      const after = Math.random() * 2_000_000;
      const ends = memoryLane({ fault: faults[changes % 3]!, after, wait: 1 });
      a.attachLane(ends[0]);
      if (changes % 5 > 0) await turns(changes % 4);
      b.attachLane(ends[1]);
      changes++;
      await turns(20);
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
  assert(x >= 100 << 20 && y >= 100 << 20 && changes >= 300);
  await Promise.all([a.detach(), b.detach()]);
});
