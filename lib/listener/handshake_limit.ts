/**
 * Bounds the QUIC handshakes that are not over. iroh cannot be told to give one up: it keeps 70 KB for each, until
 * the dialer has been silent for 30 s.
 */

/** Maximum of one dialer: many more than the routes on which it dials at once. */
const MAX_OF_DIALER = 32;
/** Number of all, 70 MB, from which on a dialer may have only one. */
const MANY = 1000;

/** Counts handshakes by dialer. */
export class HandshakeLimit {
  #unfinished = new Map<string, number>();
  #total = 0;

  /** Whether a dialer may begin another handshake. */
  permits(dialer: string): boolean {
    return this.#of(dialer) < (this.#total < MANY ? MAX_OF_DIALER : 1);
  }

  /** Counts a handshake that begins. @returns To be called once it is over. */
  begin(dialer: string): () => void {
    this.#unfinished.set(dialer, this.#of(dialer) + 1);
    this.#total++;
    return () => {
      const left = this.#of(dialer) - 1;
      if (left > 0) this.#unfinished.set(dialer, left);
      else this.#unfinished.delete(dialer);
      this.#total--;
    };
  }

  #of(dialer: string): number {
    return this.#unfinished.get(dialer) ?? 0;
  }
}
