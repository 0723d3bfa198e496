/**
 * Stripes bytes over several QUIC connections, a piece to each in turn. One connection alone is slow far away: its
 * receiver grants 1.25 MB per round trip, which at 50 ms is 25 MB/s.
 */

import type { Transport } from "./lane.ts";

/** Bytes that one connection carries before it is the next one's turn. */
const STRIPE_BYTES = 256 * 1024;

/** Several transports as one. Both ends have the same transports, in the same order. */
export class StripedTransport implements Transport {
  #stripes: readonly Transport[];
  /** Bytes that each transport has read beyond its piece. */
  #rests: (Uint8Array<ArrayBuffer> | undefined)[] = [];
  #received = 0;
  #sent = 0;

  /** @param stripes Kind and remote address are those of the first. */
  constructor(stripes: readonly [Transport, ...Transport[]]) {
    this.#stripes = stripes;
  }

  get kind(): Transport["kind"] {
    return this.#stripes[0]!.kind;
  }

  get remote(): string {
    return this.#stripes[0]!.remote;
  }

  /** Returns the next bytes, at least one, valid until the next call; undefined once a transport ends. */
  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const { index, left } = this.#stripeAt(this.#received);
    const bytes = this.#rests[index] ?? await this.#stripes[index]!.read();
    if (!bytes) return undefined;
    const part = bytes.subarray(0, left);
    this.#rests[index] = part.length < bytes.length ? bytes.subarray(part.length) : undefined;
    this.#received += part.length;
    return part;
  }

  /** Sends all bytes. Calls must not overlap. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let rest = bytes; rest.length > 0;) {
      const { index, left } = this.#stripeAt(this.#sent);
      const part = rest.subarray(0, left);
      await this.#stripes[index]!.write(part);
      this.#sent += part.length;
      rest = rest.subarray(part.length);
    }
  }

  /** Returns whose turn it is after `offset` bytes, and for how many more. */
  #stripeAt(offset: number): { index: number; left: number } {
    return {
      index: Math.floor(offset / STRIPE_BYTES) % this.#stripes.length,
      left: STRIPE_BYTES - offset % STRIPE_BYTES,
    };
  }

  close(): void {
    for (const stripe of this.#stripes) stripe.close();
  }
}
