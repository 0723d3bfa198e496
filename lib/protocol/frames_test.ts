import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import {
  FrameError,
  type FrameHandler,
  FrameReader,
  FrameWriter,
  MAX_DATA_BYTES,
} from "./frames.ts";

/** What a reader has told, in order. Parts of one data frame count as one. */
class Told implements FrameHandler {
  readonly frames: unknown[][] = [];

  start(...values: number[]): void {
    this.frames.push(["start", ...values]);
  }
  data(offset: number, data: Uint8Array): void {
    const last = this.frames.at(-1);
    if (last?.[0] === "data" && last[1] as number + (last[2] as string).length / 2 === offset) {
      last[2] += data.toHex();
    } else this.frames.push(["data", offset, data.toHex()]);
  }
  end(...values: number[]): void {
    this.frames.push(["end", ...values]);
  }
  ack(...values: number[]): void {
    this.frames.push(["ack", ...values]);
  }
  stop(): void {
    this.frames.push(["stop"]);
  }
  probe(...values: number[]): void {
    this.frames.push(["probe", ...values]);
  }
  echo(...values: number[]): void {
    this.frames.push(["echo", ...values]);
  }
}

/** Cuts bytes into pieces of the lengths given, in rotation. */
function* cut(bytes: Uint8Array<ArrayBuffer>, lengths: readonly number[]) {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length]!;
    yield bytes.slice(at, at + length);
    at += length;
  }
}

function join(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.concat(parts));
}

const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });
const uint32 = fc.integer({ min: 0, max: 0xffffffff });
const offset = fc.maxSafeNat();
const frame = fc.oneof(
  fc.tuple(fc.constant("start"), uint32),
  fc.tuple(fc.constant("data"), fc.nat(2 ** 40), fc.uint8Array({ minLength: 1, maxLength: 100 })),
  fc.tuple(fc.constant("end"), offset),
  fc.tuple(fc.constant("ack"), offset, offset),
  fc.tuple(fc.constant("stop")),
  fc.tuple(fc.constant("probe"), uint32),
  fc.tuple(fc.constant("echo"), uint32),
) as fc.Arbitrary<[keyof FrameHandler, ...never[]]>;

Deno.test("FrameReader tells what FrameWriter was given, however it is cut", () => {
  fc.assert(fc.property(fc.array(frame, { maxLength: 20 }), lengths, (frames, lengths) => {
    const told = new Told(), expected = new Told(), reader = new FrameReader(told);
    const bytes = join(...frames.map(([type, ...values]) => {
      const writer = new FrameWriter(200);
      (writer[type] as (...values: unknown[]) => void)(...values);
      (expected[type] as (...values: unknown[]) => void)(...values);
      return writer.take()!.slice();
    }));
    for (const piece of cut(bytes, lengths)) reader.push(piece);
    assert.deepEqual(told.frames, expected.frames);
  }));
});

Deno.test("FrameReader skips frames of reserved types", () => {
  const told = new Told(), reader = new FrameReader(told);
  for (const type of [0x80, 0xff]) {
    reader.push(Uint8Array.of(type, 0, 0, 0, 3, 1, 2, 3, 5)); // and a stop
    reader.push(Uint8Array.of(type, 0, 0, 0, 0, 5));
  }
  assert.deepEqual(told.frames, [["stop"], ["stop"], ["stop"], ["stop"]]);
});

Deno.test("FrameReader refuses types that are not known, and what is too long", () => {
  assert.equal(MAX_DATA_BYTES, 0x100000);
  const cases: number[][] = [
    [0],
    [8],
    [0x7f],
    [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 1], // a byte more than MAX_DATA_BYTES
    [0x80, 0, 1, 0, 1], // a byte more than 64 KiB
    [3, 0, 0x20, 0, 0, 0, 0, 0, 0], // an offset of 2^53
  ];
  for (const bytes of cases) {
    const reader = new FrameReader(new Told());
    assert.throws(() => reader.push(Uint8Array.from(bytes)), FrameError, `${bytes}`);
  }
});

Deno.test("FrameReader never fails otherwise than with a FrameError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), lengths, (bytes, lengths) => {
    const reader = new FrameReader(new Told());
    try {
      for (const piece of cut(Uint8Array.from(bytes), lengths)) reader.push(piece);
    } catch (error) {
      assert(error instanceof FrameError);
    }
  }));
});
