/** Reads and writes ZIP archives (PKWARE's APPNOTE, without encryption and without ZIP64). */

import { Buffer } from "node:buffer";
import { crc32, deflateRawSync, inflateRawSync } from "node:zlib";

const LOCAL_HEADER = 0x04034b50, LOCAL_BYTES = 30;
const CENTRAL_HEADER = 0x02014b50, CENTRAL_BYTES = 46;
const END_HEADER = 0x06054b50, END_BYTES = 22;
/** Compression methods. */
const STORED = 0, DEFLATED = 8;
/** Version 2.0 of the format, which has DEFLATE, as an archive of Unix. */
const NEEDED_VERSION = 20, MADE_BY = 3 << 8 | NEEDED_VERSION;
/** Names are UTF-8. */
const FLAGS = 1 << 11;
/** The type of a file in its mode, in Unix. */
const REGULAR_FILE = 0o100000;
/** 1 January 1980, the earliest date that the format has. Archives of one content are identical. */
const DATE = 1 << 5 | 1;

/** A file in an archive. */
export interface ZipEntry {
  readonly name: string;
  readonly content: Uint8Array;
  /** Its permissions in Unix. */
  readonly mode: number;
}

/** Writes an archive. */
export function zip(entries: readonly ZipEntry[]): Uint8Array {
  const local: Uint8Array[] = [], central: Uint8Array[] = [];
  let offset = 0;
  for (const { name, content, mode } of entries) {
    const nameBytes = Buffer.from(name), packed = deflateRawSync(content, { level: 9 });
    // What both headers have: needed version, flags, method, time, date, checksum, sizes, lengths.
    const shared = Buffer.alloc(26);
    shared.writeUInt16LE(NEEDED_VERSION, 0);
    shared.writeUInt16LE(FLAGS, 2);
    shared.writeUInt16LE(DEFLATED, 4);
    shared.writeUInt16LE(DATE, 8);
    shared.writeUInt32LE(crc32(content), 10);
    shared.writeUInt32LE(packed.length, 14);
    shared.writeUInt32LE(content.length, 18);
    shared.writeUInt16LE(nameBytes.length, 22);
    const localHead = Buffer.alloc(4),
      centralHead = Buffer.alloc(6),
      centralTail = Buffer.alloc(14);
    localHead.writeUInt32LE(LOCAL_HEADER, 0);
    centralHead.writeUInt32LE(CENTRAL_HEADER, 0);
    centralHead.writeUInt16LE(MADE_BY, 4);
    centralTail.writeUInt32LE((REGULAR_FILE | mode) * 0x10000, 6);
    centralTail.writeUInt32LE(offset, 10);
    local.push(localHead, shared, nameBytes, packed);
    central.push(centralHead, shared, centralTail, nameBytes);
    offset += LOCAL_BYTES + nameBytes.length + packed.length;
  }
  const directory = Buffer.concat(central), end = Buffer.alloc(END_BYTES);
  end.writeUInt32LE(END_HEADER, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...local, directory, end]);
}

/** Returns a file of an archive. @throws {Error} if there is none, or if the archive is damaged. */
export function unzip(archive: Uint8Array, name: string): Uint8Array {
  const bytes = Buffer.from(archive.buffer, archive.byteOffset, archive.byteLength);
  const end = bytes.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  if (end < 0) throw new Error("not a ZIP archive");
  let at = bytes.readUInt32LE(end + 16);
  for (let left = bytes.readUInt16LE(end + 10); left > 0; left--) {
    if (bytes.readUInt32LE(at) !== CENTRAL_HEADER) throw new Error("damaged ZIP archive");
    const nameBytes = bytes.readUInt16LE(at + 28);
    const start = at + CENTRAL_BYTES;
    if (bytes.toString("utf8", start, start + nameBytes) === name) return contentOf(bytes, at);
    at = start + nameBytes + bytes.readUInt16LE(at + 30) + bytes.readUInt16LE(at + 32);
  }
  throw new Error(`no ${name} in the ZIP archive`);
}

/** Returns a file. @param at Offset of its header in the central directory. */
function contentOf(bytes: Buffer, at: number): Uint8Array {
  const method = bytes.readUInt16LE(at + 10), packedBytes = bytes.readUInt32LE(at + 20);
  const local = bytes.readUInt32LE(at + 42);
  // The local header may have another extra field than the central one.
  const start = local + LOCAL_BYTES + bytes.readUInt16LE(local + 26) +
    bytes.readUInt16LE(local + 28);
  const packed = bytes.subarray(start, start + packedBytes);
  if (method !== STORED && method !== DEFLATED) throw new Error(`ZIP method ${method}`);
  const content = method === STORED ? packed : inflateRawSync(packed);
  if (crc32(content) !== bytes.readUInt32LE(at + 16)) throw new Error("damaged ZIP archive");
  return content;
}
