/**
 * Bytes dealt out over several connections, a piece to each in turn. Each has a socket of its own, and
 * so room of its own for what comes at once: Linux gives a UDP socket of Deno's 208 KiB, and what is lost
 * there slows the connection down for seconds. And what is on the way by one is bounded by what its
 * receiver has room for, 1.25 MB in Deno: at a round trip of 50 ms that is 25 MB/s.
 */

import type { Transport } from "./lane.ts";

/** What goes by one connection before it is the next one's turn. */
const STRIPE_BYTES = 256 * 1024;

/** Several transports as one. Both ends have the same ones, in the same order. */
export class StripedTransport implements Transport {
  #stripes: readonly Transport[];
  /** What each has read beyond its piece. */
  #rests: (Uint8Array<ArrayBuffer> | undefined)[] = [];
  #received = 0;
  #sent = 0;

  /** @param stripes The first of them says what kind it is, and where the other end is. */
  constructor(stripes: readonly [Transport, ...Transport[]]) {
    this.#stripes = stripes;
  }

  get kind(): Transport["kind"] {
    return this.#stripes[0]!.kind;
  }

  get remote(): string {
    return this.#stripes[0]!.remote;
  }

  /** The next bytes, at least one, valid until the next call; undefined where one of them ends. */
  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const { index, left } = this.#stripeAt(this.#received);
    const bytes = this.#rests[index] ?? await this.#stripes[index]!.read();
    if (!bytes) return undefined;
    const part = bytes.subarray(0, left);
    this.#rests[index] = part.length < bytes.length ? bytes.subarray(part.length) : undefined;
    this.#received += part.length;
    return part;
  }

  /** Not to be called while it is under way. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let rest = bytes; rest.length > 0;) {
      const { index, left } = this.#stripeAt(this.#sent);
      const part = rest.subarray(0, left);
      await this.#stripes[index]!.write(part);
      this.#sent += part.length;
      rest = rest.subarray(part.length);
    }
  }

  /** Whose turn it is after so many bytes, and for how many more. */
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
