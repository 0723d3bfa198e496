/**
 * iroh-js's native addon as the compiled program holds it, packed: a stream of Brotli (RFC 7932), and after
 * it CRC-32 and length of what is packed, as at the end of a file of gzip (RFC 1952).
 */

import { Buffer } from "node:buffer";
import { brotliCompressSync, brotliDecompressSync, constants, crc32 } from "node:zlib";
import { readPiece } from "../platform/atomic_file.ts";

/** CRC-32 and length, the lowest byte first. */
const TRAILER_BYTES = 8;
/** The best quality takes eight times as long, for a tenth less. */
const QUALITY = 9;
/** Of a file, read at once: more is no faster. */
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

/** A packed addon. Only its end is read before it is unpacked. */
export class PackedAddon {
  readonly #path: string | URL;
  readonly #crc: number;
  readonly #length: number;

  /** @throws What the system says if the file cannot be read. */
  constructor(path: string | URL) {
    const trailer = Buffer.alloc(TRAILER_BYTES);
    using file = Deno.openSync(path);
    // Not from its end, nor by what the open file says: in an embedded one Deno 2.6 can do neither.
    file.seekSync(Deno.statSync(path).size - TRAILER_BYTES, Deno.SeekMode.Start);
    readPiece(file, trailer);
    this.#path = path;
    this.#crc = trailer.readUInt32LE(0);
    this.#length = trailer.readUInt32LE(4);
  }

  /** For the unpacked addon: another one has another name. */
  get name(): string {
    return `iroh-${this.#crc.toString(16).padStart(8, "0")}.node`;
  }

  /** @throws If the file is damaged. */
  unpack(): Uint8Array {
    const stream = Deno.readFileSync(this.#path).subarray(0, -TRAILER_BYTES);
    const addon = brotliDecompressSync(stream, { maxOutputLength: Math.max(this.#length, 1) });
    if (addon.length !== this.#length || crc32(addon) !== this.#crc) {
      throw new Error("the addon in this program is damaged");
    }
    return addon;
  }

  /**
   * Whether a file holds the unpacked addon, without damage. Not asynchronous, which takes twice as
   * long; SHA-256, which would also notice what somebody has forged, takes three times as long.
   *
   * @throws What the system says if the file cannot be read.
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
