/** Reads the segments of ELF files (elf(5)) of 64 bits, little-endian, such as programs and addons for Linux. */

import { Buffer } from "node:buffer";

/** Machines, as ELF numbers them. */
export const X86_64 = 62, AARCH64 = 183;
/** Type of a segment that the kernel maps into memory. */
const PT_LOAD = 1;

/** A segment that is mapped into memory. */
export interface Segment {
  /** Offset in the file. */
  readonly offset: number;
  /** Address of its first byte. */
  readonly start: number;
  /** Address after its last byte. */
  readonly end: number;
}

/** Tells whether a file is of that format. */
export function isElf(file: Uint8Array): boolean {
  return bufferOf(file).toString("latin1", 0, 6) === "\x7fELF\x02\x01";
}

/** Returns the machine that a file is for. */
export function machineOf(file: Uint8Array): number {
  return bufferOf(file).readUInt16LE(0x12);
}

/** Returns the segments that are mapped into memory, by address. */
export function segmentsOf(file: Uint8Array): Segment[] {
  const bytes = bufferOf(file), segments: Segment[] = [];
  const table = Number(bytes.readBigUInt64LE(0x20));
  const entryBytes = bytes.readUInt16LE(0x36), count = bytes.readUInt16LE(0x38);
  for (let i = 0; i < count; i++) {
    const at = table + i * entryBytes;
    if (bytes.readUInt32LE(at) !== PT_LOAD) continue;
    const [offset, start, memoryBytes] = [8, 16, 40]
      .map((field) => Number(bytes.readBigUInt64LE(at + field)));
    segments.push({ offset: offset!, start: start!, end: start! + memoryBytes! });
  }
  return segments.toSorted((a, b) => a.start - b.start);
}

/** Returns why a kernel with pages of that size cannot run a file; nothing if it can. */
export function pageProblems(file: Uint8Array, pageBytes: number): string[] {
  const problems: string[] = [], hex = (number: number) => `0x${number.toString(16)}`;
  let before: Segment | undefined;
  for (const segment of segmentsOf(file)) {
    const { offset, start } = segment;
    if (offset % pageBytes !== start % pageBytes) {
      problems.push(`the segment at ${hex(start)} cannot be mapped in pages of ${pageBytes} bytes`);
    }
    if (before && Math.ceil(before.end / pageBytes) > Math.floor(start / pageBytes)) {
      problems.push(
        `the segments up to ${hex(before.end)} and from ${hex(start)} on share a page of ` +
          `${pageBytes} bytes`,
      );
    }
    before = segment;
  }
  return problems;
}

/**
 * Returns a runtime for `deno compile`, longer by zeros, up to the first page after all of its segments.
 *
 * Deno 2.9 appends a segment with the embedded files at the next multiple of 4 KiB after the file and its
 * segments. With larger pages, that may be in a page of the segment before it. The kernel then replaces the
 * end of that segment, and the program crashes at its start.
 */
export function padToPage(runtime: Uint8Array, pageBytes: number): Uint8Array {
  const end = Math.max(runtime.length, ...segmentsOf(runtime).map(({ end }) => end));
  const padded = new Uint8Array(Math.ceil(end / pageBytes) * pageBytes);
  padded.set(runtime);
  return padded;
}

/** Returns the largest N of the symbol versions `GLIBC_2.N` that a file needs; undefined if it needs none. */
export function glibcMinorOf(file: Uint8Array): number | undefined {
  const minors = bufferOf(file).toString("latin1").matchAll(/GLIBC_2\.(\d+)/g);
  const found = [...minors].map(([, minor]) => Number(minor));
  return found.length > 0 ? Math.max(...found) : undefined;
}

function bufferOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
