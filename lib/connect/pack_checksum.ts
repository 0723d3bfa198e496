/** Completes a pack of git whose last byte is missing: it is the last one of the pack's checksum (gitformat-pack(5)). */

import type { Hash } from "node:crypto";

/** Length of the checksum, a SHA-1. In a repository with SHA-256 it never fits, so nothing is completed. */
const CHECKSUM_BYTES = 20;
/** Maximum length of what is kept. A pack that is shorter costs nothing but memory, unless its end is missing. */
const MAX_KEPT_BYTES = 64 * 1024;
const SIGNATURE = "PACK";

/** Computes the checksum of a pack while it passes. */
export class PackChecksum {
  #hash: Hash | undefined;
  /** What has come last, and is not hashed. */
  #kept = new Uint8Array(MAX_KEPT_BYTES);
  #keptBytes = 0;

  /** Takes the next bytes. */
  async add(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length;) {
      if (this.#keptBytes === MAX_KEPT_BYTES) await this.#hashAllBut(CHECKSUM_BYTES);
      const piece = data.subarray(at, at + MAX_KEPT_BYTES - this.#keptBytes);
      this.#kept.set(piece, this.#keptBytes);
      this.#keptBytes += piece.length;
      at += piece.length;
    }
  }

  /** Returns the last byte if it is all that is missing. No bytes may be added after that. */
  async lastByte(): Promise<number | undefined> {
    const begin = new TextDecoder().decode(this.#kept.subarray(0, SIGNATURE.length));
    if (!this.#hash && begin !== SIGNATURE) return undefined;
    await this.#hashAllBut(CHECKSUM_BYTES - 1);
    const checksum = this.#hash!.digest();
    const end = this.#kept.subarray(0, this.#keptBytes);
    const fits = end.length === CHECKSUM_BYTES - 1 && end.every((byte, i) => byte === checksum[i]);
    return fits ? checksum.at(-1) : undefined;
  }

  async #hashAllBut(length: number): Promise<void> {
    // It takes 10 ms to load.
    this.#hash ??= (await import("node:crypto")).createHash("sha1");
    const hashed = Math.max(0, this.#keptBytes - length);
    this.#hash.update(this.#kept.subarray(0, hashed));
    this.#kept.copyWithin(0, hashed, this.#keptBytes);
    this.#keptBytes -= hashed;
  }
}
