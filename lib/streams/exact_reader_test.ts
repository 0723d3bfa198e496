import assert from "node:assert/strict";
import fc from "fast-check";
import { type ByteSource, ExactReader, UnexpectedEnd } from "./exact_reader.ts";

/** Returns a source of bytes that count up, which gives at most so many each time, in rotation. */
function counting(total: number, mostAtOnce: readonly number[]): ByteSource {
  let given = 0, calls = 0;
  return (buffer) => {
    assert(buffer.length > 0, "a read without room");
    if (given === total) return Promise.resolve(null);
    const most = mostAtOnce[calls++ % mostAtOnce.length]!;
    const length = Math.min(buffer.length, most, total - given);
    for (let i = 0; i < length; i++) buffer[i] = given++ & 0xff;
    return Promise.resolve(length);
  };
}

Deno.test("ExactReader gives pieces of the lengths that are asked for, then fails at the end", async () => {
  const lengths = fc.array(fc.nat(300), { maxLength: 30 });
  const mostAtOnce = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 });
  const property = fc.asyncProperty(
    lengths,
    mostAtOnce,
    fc.integer({ min: 1, max: 100 }),
    fc.nat(20),
    async (lengths, mostAtOnce, bufferBytes, rest) => {
      const total = lengths.reduce((sum, length) => sum + length, 0);
      const reader = new ExactReader(counting(total + rest, mostAtOnce), bufferBytes);
      let offset = 0;
      for (const length of lengths) {
        const piece = await reader.read(length);
        assert.deepEqual(piece, Uint8Array.from({ length }, (_, i) => (offset + i) & 0xff));
        offset += length;
      }
      await assert.rejects(reader.read(rest + 1), (error: unknown) => {
        assert(error instanceof UnexpectedEnd);
        assert.deepEqual([error.received, error.expected], [rest, rest + 1]);
        return true;
      });
    },
  );
  await fc.assert(property, { numRuns: 200 });
});

Deno.test("ExactReader passes on the error of its source", async () => {
  const reader = new ExactReader(() => Promise.reject(new Error("broken")), 10);
  assert.deepEqual(await reader.read(0), new Uint8Array());
  await assert.rejects(reader.read(1), /broken/);
});
