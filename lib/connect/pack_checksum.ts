/** Tells what is missing of a pack of git, by the checksum with which it ends (gitformat-pack(5)). */

import type { Hash } from "node:crypto";

/** Length of the checksum, a SHA-1. In a repository with SHA-256 it never fits, so no pack counts as complete. */
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

  /** Returns what is missing: nothing, or the last byte; undefined if more is. No bytes may be added after that. */
  async missing(): Promise<readonly number[] | undefined> {
    const begin = new TextDecoder().decode(this.#kept.subarray(0, SIGNATURE.length));
    if (!this.#hash && begin !== SIGNATURE) return undefined;
    for (let length = CHECKSUM_BYTES; length >= CHECKSUM_BYTES - 1; length--) {
      await this.#hashAllBut(length);
      const checksum = this.#hash!.copy().digest(), end = this.#kept.subarray(0, this.#keptBytes);
      const fits = end.length === length && end.every((byte, i) => byte === checksum[i]);
      if (fits) return [...checksum.subarray(length)];
    }
    return undefined;
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
