import assert from "node:assert/strict";
import fc from "fast-check";
import { ReadAhead, type Source } from "./read_ahead.ts";

/** Gives pieces of these lengths, of bytes that count up, each in the same memory. */
function counting(lengths: readonly number[]): Source {
  const memory = new Uint8Array(Math.max(...lengths, 1));
  let count = 0, at = 0;
  return async () => {
    const length = lengths[at++];
    if (length === undefined) return undefined;
    if (length % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    for (let i = 0; i < length; i++) memory[i] = count++ % 251;
    return memory.subarray(0, length);
  };
}

Deno.test("ReadAhead gives what was read, and leaves alone what is not released", async () => {
  const lengths = fc.array(
    fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 400_000 })),
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
        const isRight = piece.every((byte, i) => byte === (from + i) % 251);
        assert(isRight, `the piece from byte ${from}`);
      };
      for (let piece; (piece = await ahead.read());) {
        assert(piece.length > 0);
        held.push({ piece, from: total });
        total += piece.length;
        if (choices.next().value === 0) await new Promise((resolve) => setTimeout(resolve, 0));
        if (choices.next().value! > 1) {
          const oldest = held.shift()!;
          check(oldest);
          ahead.release(oldest.piece.subarray(choices.next().value)); // any part of it will do
        }
      }
      held.forEach(check);
      assert.equal(total, lengths.reduce((sum, length) => sum + length, 0));
      assert.equal(ahead.bytes, 0);
    },
  );
  await fc.assert(property, { numRuns: 150 });
});

Deno.test("ReadAhead reads no more than it may while nobody takes anything", async () => {
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

Deno.test("ReadAhead tells of a failure after all that came before, and of it again", async () => {
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

Deno.test("ReadAhead reads to the end what nobody wants any more", async () => {
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
