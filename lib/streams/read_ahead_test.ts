import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { ByteBudget } from "./byte_budget.ts";
import { ReadAhead, type Source } from "./read_ahead.ts";

/** Maximum length of what a source gives at once: more than a piece. */
const MAX_READ_BYTES = 400_000;
const PERIOD = 251;
const PATTERN = new Uint8Array(MAX_READ_BYTES + PERIOD).map((_, i) => i % PERIOD);

/** Returns bytes that count up from `offset`. */
function pattern(offset: number, length: number): Uint8Array {
  return PATTERN.subarray(offset % PERIOD, offset % PERIOD + length);
}

/** Returns a source that gives so many bytes each time, all in the same memory. The bytes count up. */
function counting(lengths: readonly number[]): Source {
  const memory = new Uint8Array(Math.max(...lengths, 1));
  let offset = 0, at = 0;
  return async () => {
    const length = lengths[at++];
    if (length === undefined) return undefined;
    if (length % 3 === 0) await setImmediate();
    memory.set(pattern(offset, length));
    offset += length;
    return memory.subarray(0, length);
  };
}

Deno.test("ReadAhead gives all bytes in order, and changes no piece before it is released", async () => {
  const lengths = fc.array(
    fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: MAX_READ_BYTES })),
    { maxLength: 15 },
  );
  const property = fc.asyncProperty(
    lengths,
    fc.integer({ min: 1, max: 600_000 }),
    fc.infiniteStream(fc.nat(3)),
    async (lengths, most, choices) => {
      const ahead = new ReadAhead(counting(lengths), most);
      const held: { piece: Uint8Array<ArrayBuffer>; from: number }[] = [];
      let total = 0;
      const check = ({ piece, from }: { piece: Uint8Array<ArrayBuffer>; from: number }) => {
        const isRight = Buffer.from(piece.buffer, piece.byteOffset, piece.length)
          .equals(pattern(from, piece.length));
        assert(isRight, `the piece from byte ${from}`);
      };
      for (let piece; (piece = await ahead.read());) {
        assert(piece.length > 0);
        held.push({ piece, from: total });
        total += piece.length;
        if (choices.next().value === 0) await setImmediate();
        if (choices.next().value! > 1) {
          const oldest = held.shift()!;
          check(oldest);
          ahead.release(oldest.piece.subarray(choices.next().value)); // any part of the piece will do
        }
      }
      held.forEach(check);
      assert.equal(total, lengths.reduce((sum, length) => sum + length, 0));
      assert.equal(ahead.bytes, 0);
    },
  );
  await fc.assert(property, { numRuns: 150 });
});

Deno.test("ReadAhead stops reading while as many bytes wait as may", async () => {
  let read = 0;
  const piece = new Uint8Array(10_000);
  const ahead = new ReadAhead(() => {
    read += piece.length;
    return Promise.resolve(piece);
  }, 1_000_000);
  ahead.begin();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(read, 1_000_000);
  const taken = (await ahead.read())!.length;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert(read >= 1_000_000 && read < 1_000_000 + taken + piece.length);
});

Deno.test("ReadAhead reads further ahead while a budget lasts, and gives back what it no longer needs", async () => {
  const budget = new ByteBudget(1 << 20), limits = { bytes: 256 << 10, maxBytes: 1 << 20, budget };
  const piece = new Uint8Array(64 << 10);
  const settle = () => new Promise((resolve) => setTimeout(resolve, 20));
  const isLeft = (bytes: number) => {
    const isThere = budget.take(bytes);
    if (isThere) budget.give(bytes);
    return isThere;
  };
  let isEndless = true;
  const begin = () => {
    const ahead = new ReadAhead(() => Promise.resolve(isEndless ? piece : undefined), limits);
    ahead.begin();
    return ahead;
  };
  const first = begin();
  await settle();
  const second = begin();
  await settle();
  assert.deepEqual([first.bytes, second.bytes], [1 << 20, 512 << 10]);
  assert(!isLeft(1));
  isEndless = false;
  while (await first.read());
  assert(isLeft(768 << 10) && !isLeft(769 << 10));
  second.discard();
  assert(isLeft(1 << 20));
});

Deno.test("ReadAhead throws the error of the source after the bytes before it, at each further read", async () => {
  const source = counting([5, 7]);
  const ahead = new ReadAhead(async () => {
    const piece = await source();
    if (!piece) throw new Error("broken");
    return piece;
  }, 1_000);
  let length = 0;
  const all = async () => {
    for (let piece; (piece = await ahead.read());) length += piece.length;
  };
  await assert.rejects(all, /broken/);
  assert.equal(length, 12);
  await assert.rejects(ahead.read(), /broken/);
});

Deno.test("ReadAhead.discard() reads the source to its end", async () => {
  const lengths = Array.from({ length: 50 }, () => 100_000);
  let ended = false;
  const source = counting(lengths);
  const ahead = new ReadAhead(async () => {
    const piece = await source();
    ended = piece === undefined;
    return piece;
  }, 200_000);
  await ahead.read();
  ahead.discard();
  assert.equal(ahead.bytes, 0);
  assert.equal(await ahead.read(), undefined);
  assert(ended);
});
