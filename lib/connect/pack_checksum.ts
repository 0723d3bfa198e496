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
  #kept: Uint8Array<ArrayBuffer> = new Uint8Array();

  /** Takes the next bytes. */
  async add(data: Uint8Array): Promise<void> {
    this.#kept = joined(this.#kept, data);
    if (this.#kept.length > MAX_KEPT_BYTES) await this.#hashAllBut(CHECKSUM_BYTES);
  }

  /** Returns the last byte if it is all that is missing. No bytes may be added after that. */
  async lastByte(): Promise<number | undefined> {
    const begin = new TextDecoder().decode(this.#kept.subarray(0, SIGNATURE.length));
    if (!this.#hash && begin !== SIGNATURE) return undefined;
    await this.#hashAllBut(CHECKSUM_BYTES - 1);
    const checksum = this.#hash!.digest();
    const fits = this.#kept.length === CHECKSUM_BYTES - 1 &&
      this.#kept.every((byte, i) => byte === checksum[i]);
    return fits ? checksum.at(-1) : undefined;
  }

  async #hashAllBut(length: number): Promise<void> {
    // It takes 10 ms to load.
    this.#hash ??= (await import("node:crypto")).createHash("sha1");
    const end = Math.max(0, this.#kept.length - length);
    this.#hash.update(this.#kept.subarray(0, end));
    this.#kept = this.#kept.slice(end);
  }
}

/** Returns one array with the bytes of both. */
export function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
