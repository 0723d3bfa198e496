/** iroh-js's native addon as the compiled program holds it: packed, one file of gzip (RFC 1952). */

import { Buffer } from "node:buffer";
import { crc32, gunzipSync } from "node:zlib";
import { readPiece } from "./atomic_file.ts";

/** The end of the file: CRC-32 and length of what is packed, the lowest byte first. */
const TRAILER_BYTES = 8;
/** Of a file, read at once: more is no faster. */
const PIECE_BYTES = 256 * 1024;

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
    return gunzipSync(Deno.readFileSync(this.#path));
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
