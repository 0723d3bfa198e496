import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import {
  endFrame,
  FrameError,
  FrameReader,
  FrameWriter,
  migrateFrame,
  MOST_FRAME_BYTES,
} from "./frames.ts";

/** Cuts bytes into pieces of the lengths given, in rotation. */
function* cut(bytes: Uint8Array<ArrayBuffer>, lengths: readonly number[]) {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length]!;
    yield bytes.slice(at, at + length);
    at += length;
  }
}

function dataFrame(data: Uint8Array): Uint8Array {
  return new FrameWriter().data(data);
}

function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.concat(parts));
}

const chunks = fc.array(fc.uint8Array({ minLength: 1, maxLength: 100 }), { maxLength: 20 });
const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });

Deno.test("FrameReader gives what was put into frames, however they are cut", () => {
  const mark = fc.constantFrom("end", "move");
  fc.assert(fc.property(chunks, lengths, mark, (chunks, lengths, mark) => {
    const data = join(chunks);
    const last = mark === "end" ? endFrame(data.length) : migrateFrame(data.length);
    const frames = join([...chunks.map(dataFrame), last]);
    const reader = new FrameReader();
    const out: Uint8Array[] = [], marks: string[] = [];
    for (const piece of cut(frames, lengths)) {
      const parsed = reader.push(piece);
      out.push(...parsed.data);
      if (parsed.mark) marks.push(parsed.mark);
    }
    assert.deepEqual(join(out), data);
    assert.deepEqual(marks, [mark]);
    assert.equal(reader.received, data.length);
  }));
});

Deno.test("FrameReader refuses a count that is wrong, whatever follows an end, and frames too long", () => {
  const some = dataFrame(new Uint8Array(5));
  const cases: Uint8Array[][] = [
    [some, endFrame(4)],
    [some, migrateFrame(6)],
    [some, endFrame(5), Uint8Array.of(0)],
    [join([some, migrateFrame(5), some])],
    [Uint8Array.of(0, 0x10, 0, 1)], // a byte more than MOST_FRAME_BYTES
    [Uint8Array.of(0xff, 0xff, 0xff, 0xfe)],
  ];
  assert.equal(MOST_FRAME_BYTES, 0x100000);
  for (const pieces of cases) {
    const reader = new FrameReader();
    assert.throws(() => pieces.forEach((piece) => reader.push(Uint8Array.from(piece))), FrameError);
  }
});

Deno.test("FrameReader never fails otherwise than with a FrameError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), lengths, (bytes, lengths) => {
    const reader = new FrameReader();
    try {
      for (const piece of cut(Uint8Array.from(bytes), lengths)) reader.push(piece);
    } catch (error) {
      assert(error instanceof FrameError);
    }
  }));
});
