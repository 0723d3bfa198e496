/** A session whose peer sends any frames, at home and on a lane, and one whose carriers fail in any way. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { StreamError } from "../../lib/streams/duplex.ts";
import { CloseCode } from "../../lib/protocol/close_codes.ts";
import { INITIAL_WINDOW_BYTES } from "../../lib/protocol/credit.ts";
import type { FrameWriter } from "../../lib/protocol/frames.ts";
import { Session } from "../../lib/protocol/session.ts";
import { memoryLane, memoryStream, RawHome, RawPeer, turns } from "../memory_carriers.ts";
import { attachLane, makePair, type SessionEnd } from "../session_pair.ts";
import { damaged, type FuzzTarget } from "./target.ts";

const never = new Promise<StreamError>(() => {});
/** Returns the byte at an offset: so each byte that arrives can be checked. */
function byteAt(offset: number): number {
  return offset % 251;
}

function bytesAt(offset: number, length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => byteAt(offset + i));
}

const offset = fc.oneof(
  fc.nat(40),
  fc.nat(2000),
  fc.constantFrom(INITIAL_WINDOW_BYTES - 1, INITIAL_WINDOW_BYTES, 2 ** 40),
);
const generation = fc.oneof(fc.nat(6), fc.nat(40));

/** One frame of a hostile peer. */
const frame: fc.Arbitrary<(frames: FrameWriter) => void> = fc.oneof(
  generation.map((generation) => (frames: FrameWriter) => frames.start(generation)),
  fc.tuple(offset, fc.nat(60)).map(([at, length]) => (frames: FrameWriter) =>
    frames.data(at, bytesAt(at, length))
  ),
  offset.map((total) => (frames: FrameWriter) => frames.end(total)),
  fc.tuple(offset, offset).map(([received, more]) => (frames: FrameWriter) =>
    frames.ack(received, INITIAL_WINDOW_BYTES + more)
  ),
  fc.constant((frames: FrameWriter) => frames.stop()),
  fc.nat(3).map((id) => (frames: FrameWriter) => frames.probe(id)),
  fc.nat(3).map((id) => (frames: FrameWriter) => frames.echo(id)),
);

/** A peer that goes on where it was: what a session may well accept. */
const orderly = fc.array(fc.nat(80), { minLength: 1, maxLength: 6 }).map((lengths) => {
  let at = 0;
  return lengths.map((length) => (frames: FrameWriter) => {
    frames.data(at, bytesAt(at, length));
    at += length;
  });
});

type Act =
  | {
    readonly kind: "send";
    readonly on: "home" | "lane";
    readonly frames: readonly ((frames: FrameWriter) => void)[];
  }
  | { readonly kind: "junk"; readonly on: "home" | "lane"; readonly bytes: Uint8Array }
  | { readonly kind: "write" | "close" | "cancel" | "lane" | "lose lane" | "wait" };

const on = fc.constantFrom("home" as const, "lane" as const);
const act: fc.Arbitrary<Act> = fc.oneof(
  fc.record({
    kind: fc.constant("send" as const),
    on,
    frames: fc.oneof(fc.array(frame, { maxLength: 5 }), orderly),
  }),
  fc.record({
    kind: fc.constant("junk" as const),
    on,
    bytes: damaged(fc.constantFrom(
      Uint8Array.of(1, 0, 0, 0, 2),
      Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0),
      Uint8Array.of(0x80, 0, 0, 0, 1, 7),
    )),
  }),
  fc.record({
    kind: fc.constantFrom(
      "write" as const,
      "close" as const,
      "cancel" as const,
      "lane" as const,
      "lose lane" as const,
      "wait" as const,
    ),
  }),
);

/**
 * Whatever the peer sends, the session goes on or ends with the code for a breach of the protocol, its reader
 * gets no byte that is wrong, and it can be ended.
 */
const hostile = fc.asyncProperty(
  fc.boolean(),
  fc.array(act, { maxLength: 12 }),
  async (begins, acts) => {
    const [mine, peers] = memoryStream();
    const session = new Session(mine, never, { lookMs: 2, stallMs: 5, ackDelayMs: 1 });
    const home = new RawHome(peers);
    let [near, far] = memoryLane(),
      lane = RawPeer.onLane(far),
      read = 0,
      isClosed = false,
      wrong = false,
      failure: unknown;
    session.attachLane(near);
    const reading = (async () => {
      for await (const piece of session.readable) {
        for (const byte of piece) wrong ||= byte !== byteAt(read++);
        session.release(piece);
      }
    })().catch((error) => failure ??= error);
    const writer = session.writable.getWriter();
    writer.closed.catch((error) => failure ??= error);
    const quietly = (promise: Promise<unknown>) => void promise.catch(() => {}); // the session says why
    if (begins) {
      for (const peer of [home, lane]) {
        await peer.send((frames) => frames.start(peer === home ? 1 : 2)).catch(() => {});
      }
    }
    for (const act of acts) {
      const peer = "on" in act && act.on === "lane" ? lane : home;
      switch (act.kind) {
        case "send":
          quietly(peer.send((frames) => {
            for (const write of act.frames) write(frames);
            frames.probe(99);
          }));
          break;
        case "junk":
          quietly(peer.sendBytes(...act.bytes));
          break;
        case "write":
          if (!isClosed) quietly(writer.write(bytesAt(session.sent, 100)));
          break;
        case "close":
          if (!isClosed) quietly(writer.close());
          isClosed = true;
          break;
        case "cancel":
          // The reader has a lock, so the session is ended instead.
          quietly(session.abort(new StreamError("reset", "cancelled")));
          break;
        case "lane":
          [near, far] = memoryLane();
          lane = RawPeer.onLane(far);
          session.attachLane(near);
          break;
        case "lose lane":
          far.close();
          break;
      }
      await turns(act.kind === "wait" ? 20 : 2);
    }
    assert(session.received <= INITIAL_WINDOW_BYTES * 2);
    if (failure !== undefined) assert(failure instanceof StreamError, `${failure}`);
    if (failure instanceof StreamError && failure.kind === "refused") {
      assert.equal(failure.code, CloseCode.BAD_HELLO);
    }
    await session.abort(new StreamError("closed", "the test is over"));
    await session.detach();
    await reading;
    const isHonest = acts.every(({ kind }) => kind !== "junk"); // which may contain data
    assert(!(wrong && isHonest), "a wrong byte has arrived");
  },
);

type Fault =
  | { readonly kind: "write" | "read"; readonly bytes: number; readonly by: 0 | 1 }
  | {
    readonly kind: "lane";
    readonly after: number;
    readonly fault: "closed" | "silent" | "none";
    readonly pieceBytes: number;
  };

const by = fc.constantFrom(0 as const, 1 as const);
const fault: fc.Arbitrary<Fault> = fc.oneof(
  fc.record({
    kind: fc.constantFrom("write" as const, "read" as const),
    bytes: fc.nat(100_000),
    by,
  }),
  fc.record({
    kind: fc.constant("lane" as const),
    after: fc.oneof(fc.nat(100), fc.nat(200_000)),
    fault: fc.constantFrom("closed" as const, "silent" as const, "none" as const),
    pieceBytes: fc.constantFrom(1000, 65_536, 77_777),
  }),
);

/** Whatever happens to its lanes, a session carries each byte once, in order, both ways, to its end. */
const faultyLanes = fc.asyncProperty(
  fc.array(fault, { maxLength: 8 }),
  fc.integer({ min: 1, max: 5000 }),
  async (faults, pieceBytes) => {
    const pair = makePair({ lookMs: 2, stallMs: 10, ackDelayMs: 1 }, { pieceBytes });
    const sent = [0, 0], received = [0, 0];
    const reading = pair.map(async (end, i) => {
      for (;;) {
        const { value } = await end.reader.read();
        if (!value) return;
        for (const byte of value) assert.equal(byte, byteAt(received[i]!++));
        end.session.release(value);
      }
    });
    const write = async (end: SessionEnd, i: number, length: number) => {
      const bytes = bytesAt(sent[i]!, length);
      sent[i]! += length;
      await end.writer.write(bytes);
    };
    const writing: Promise<void>[] = [];
    for (const fault of faults) {
      if (fault.kind === "lane") attachLane(pair, fault);
      else writing.push(write(pair[fault.by], fault.by, fault.bytes));
      await turns(3);
    }
    await Promise.all(writing);
    await Promise.all(pair.map(({ writer }) => writer.close()));
    await Promise.all(reading);
    assert.deepEqual(received, [sent[1], sent[0]]);
    await Promise.all(pair.map(({ session }) => session.detach()));
  },
);

export const sessionTargets: readonly FuzzTarget[] = [
  { name: "hostile-session", property: hostile, inputs: 30 },
  { name: "faulty-lanes", property: faultyLanes, inputs: 10 },
];
