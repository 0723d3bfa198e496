/**
 * Packs and unpacks iroh-js's native addon, which the compiled program contains packed. The format is a Brotli
 * stream (RFC 7932), then CRC-32 and length of the addon, like the trailer of a gzip file (RFC 1952).
 */

import { Buffer } from "node:buffer";
import { brotliCompressSync, brotliDecompressSync, constants, crc32 } from "node:zlib";
import { readPiece } from "../platform/atomic_file.ts";

/** Length of the trailer: CRC-32 and length, little-endian. */
const TRAILER_BYTES = 8;
/** Brotli's quality. The best one, 11, takes eight times as long and saves 10 %. */
const QUALITY = 9;
/** Bytes of a file to read at once. More is not faster. */
const PIECE_BYTES = 256 * 1024;

/** Packs an addon. */
export function packAddon(addon: Uint8Array): Uint8Array {
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: QUALITY,
    [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
  };
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.writeUInt32LE(crc32(addon), 0);
  trailer.writeUInt32LE(addon.length, 4);
  return Buffer.concat([brotliCompressSync(addon, { params }), trailer]);
}

/** A part of a file. */
export interface FilePart {
  readonly offset: number;
  readonly bytes: number;
}

/** A packed addon. Only its trailer is read before it is unpacked. */
export class PackedAddon {
  readonly #path: string | URL;
  readonly #part: FilePart;
  readonly #crc: number;
  readonly #length: number;

  /**
   * @param part The part of the file that is the packed addon, by default all of it.
   * @throws An error of the system if the file cannot be read.
   */
  constructor(path: string | URL, part?: FilePart) {
    this.#path = path;
    // Deno 2.6 can neither seek an embedded file from its end nor ask an open one for its size.
    this.#part = part ?? { offset: 0, bytes: Deno.statSync(path).size };
    const { offset, bytes } = this.#part;
    const trailer = Buffer.from(this.#read(offset + bytes - TRAILER_BYTES, TRAILER_BYTES));
    this.#crc = trailer.readUInt32LE(0);
    this.#length = trailer.readUInt32LE(4);
  }

  /** File name for the unpacked addon, which differs from version to version. */
  get name(): string {
    return `iroh-${this.#crc.toString(16).padStart(8, "0")}.node`;
  }

  /** Unpacks the addon. @throws {Error} if the file is damaged. */
  unpack(): Uint8Array {
    const { offset, bytes } = this.#part;
    const stream = this.#read(offset, bytes - TRAILER_BYTES);
    const addon = brotliDecompressSync(stream, { maxOutputLength: Math.max(this.#length, 1) });
    if (addon.length !== this.#length || crc32(addon) !== this.#crc) {
      throw new Error("the addon in this program is damaged");
    }
    return addon;
  }

  /** Reads a part of the file. @throws {Error} if the file ends before. */
  #read(offset: number, bytes: number): Uint8Array {
    using file = Deno.openSync(this.#path);
    file.seekSync(offset, Deno.SeekMode.Start);
    const piece = readPiece(file, new Uint8Array(bytes));
    if (piece.length < bytes) throw new Error("the addon in this program is damaged");
    return piece;
  }

  /**
   * Tells whether a file is the unpacked addon, without damage. Asynchronous reads would take twice as long.
   * SHA-256, which also detects forgery, would take three times as long.
   *
   * @throws An error of the system if the file cannot be read.
   */
  isIn(path: string): boolean {
    using file = Deno.openSync(path);
    const buffer = new Uint8Array(PIECE_BYTES);
    let crc = 0, length = 0;
    for (;;) {
      const piece = readPiece(file, buffer);
      crc = crc32(piece, crc);
      length += piece.length;
      if (length > this.#length) return false;
      if (piece.length < PIECE_BYTES) return length === this.#length && crc === this.#crc;
    }
  }
}
