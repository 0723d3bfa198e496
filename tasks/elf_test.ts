import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  AARCH64,
  glibcMinorOf,
  isElf,
  machineOf,
  padToPage,
  pageProblems,
  segmentsOf,
} from "./elf.ts";

const HEADER_BYTES = 64, ENTRY_BYTES = 56, PAGE_BYTES = 64 * 1024;

/** Makes an ELF file. @param segments For each, its offset, its address and its length in memory. */
function elf(segments: readonly (readonly [number, number, number])[]): Uint8Array {
  const bytes = Buffer.alloc(HEADER_BYTES + segments.length * ENTRY_BYTES);
  bytes.write("\x7fELF\x02\x01", "latin1");
  bytes.writeUInt16LE(AARCH64, 0x12);
  bytes.writeBigUInt64LE(BigInt(HEADER_BYTES), 0x20);
  bytes.writeUInt16LE(ENTRY_BYTES, 0x36);
  bytes.writeUInt16LE(segments.length, 0x38);
  for (const [i, [offset, address, length]] of segments.entries()) {
    const at = HEADER_BYTES + i * ENTRY_BYTES;
    bytes.writeUInt32LE(1, at);
    bytes.writeBigUInt64LE(BigInt(offset), at + 8);
    bytes.writeBigUInt64LE(BigInt(address), at + 16);
    bytes.writeBigUInt64LE(BigInt(length), at + 40);
  }
  return bytes;
}

Deno.test("elf: the segments of a file, by address", () => {
  const file = elf([[0x20000, 0x30000, 0x10], [0, 0, 0x100]]);
  assert(isElf(file));
  assert.equal(machineOf(file), AARCH64);
  assert.deepEqual(segmentsOf(file), [
    { offset: 0, start: 0, end: 0x100 },
    { offset: 0x20000, start: 0x30000, end: 0x30010 },
  ]);
  assert(!isElf(new Uint8Array(100)));
});

Deno.test("elf: segments that share a page are found, and only at that page size", () => {
  // Like a program that Deno 2.9.6 compiles: .bss ends in the page in which the embedded files begin.
  const file = elf([[0, 0, 0x66b90], [0x67000, 0x67000, 0x938]]);
  assert.deepEqual(pageProblems(file, 0x1000), []);
  assert.deepEqual(pageProblems(file, 0x4000), [
    "the segments up to 0x66b90 and from 0x67000 on share a page of 16384 bytes",
  ]);
  assert.equal(pageProblems(file, PAGE_BYTES).length, 1);
});

Deno.test("elf: a segment ends at a page, and the next one begins there", () => {
  assert.deepEqual(pageProblems(elf([[0, 0, 0x10000], [0x10000, 0x10000, 1]]), PAGE_BYTES), []);
  assert.equal(pageProblems(elf([[0, 0, 0x10001], [0x10000, 0x10000, 1]]), PAGE_BYTES).length, 1);
});

Deno.test("elf: a segment whose offset and address differ within a page is found", () => {
  assert.deepEqual(pageProblems(elf([[0x1000, 0x11000, 1]]), PAGE_BYTES), []);
  assert.deepEqual(pageProblems(elf([[0x1000, 0x12000, 1]]), PAGE_BYTES), [
    "the segment at 0x12000 cannot be mapped in pages of 65536 bytes",
  ]);
});

Deno.test("elf: a padded runtime ends at a page after its file and its segments", () => {
  const file = elf([[0, 0, 0x66b90]]), padded = padToPage(file, PAGE_BYTES);
  assert.equal(padded.length, 0x70000);
  assert.deepEqual(padded.subarray(0, file.length), new Uint8Array(file));
  assert(padded.subarray(file.length).every((byte) => byte === 0));
  assert.equal(padToPage(padded, PAGE_BYTES).length, padded.length);
  assert.equal(padToPage(elf([[0, 0, 1]]), PAGE_BYTES).length, PAGE_BYTES);
});

Deno.test("elf: the glibc that a file needs", () => {
  const text = new TextEncoder().encode("x\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0");
  assert.equal(glibcMinorOf(text), 34);
  assert.equal(glibcMinorOf(new Uint8Array(10)), undefined);
});
