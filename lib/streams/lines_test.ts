import assert from "node:assert/strict";
import { readLines } from "./lines.ts";

function linesOf(chunks: readonly Uint8Array[], maxCharacters = 100): Promise<string[]> {
  return Array.fromAsync(readLines(ReadableStream.from(chunks), maxCharacters));
}

Deno.test("readLines() gives lines, however the bytes are cut", async () => {
  const bytes = new TextEncoder().encode("één\n\ntwo\nlast");
  const expected = ["één", "", "two", "last"];
  assert.deepEqual(await linesOf([bytes]), expected);
  assert.deepEqual(await linesOf([...bytes].map((byte) => Uint8Array.of(byte))), expected);
  assert.deepEqual(await linesOf([]), []);
});

Deno.test("readLines() gives the beginning of a line that is too long", async () => {
  const bytes = new TextEncoder().encode("abcdefgh\nij");
  assert.deepEqual(await linesOf([bytes], 3), ["abc", "ij"]);
  assert.deepEqual(await linesOf([...bytes].map((byte) => Uint8Array.of(byte)), 3), ["abc", "ij"]);
});
