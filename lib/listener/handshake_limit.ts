/**
 * Bounds the QUIC handshakes of a dialer that lead to nothing. Each takes the processor for some milliseconds. One that
 * is not over takes 70 KB, too: iroh cannot be told to give it up, until the dialer has been silent for 30 s.
 */

/** Maximum of one dialer: many more than the routes on which it dials at once. */
const MAX_OF_DIALER = 32;
/** Number of all, 70 MB, from which on a dialer may have only one. */
const MANY = 1000;
/** Time for which a handshake counts at least. A dialer that is let in gets in within that over most networks. */
const MIN_COUNTED_MS = 1_000;

/** A handshake that counts. */
export interface CountedHandshake {
  /** Says that it is over. It may count for a while. */
  over(): void;
  /** Says that git-annex has let the peer in. It no longer counts. */
  letIn(): void;
}

/** A handshake that is over, and counts until that time. */
interface RecentHandshake {
  readonly untilMs: number;
  readonly forget: () => void;
}

/** Counts handshakes by dialer. */
export class HandshakeLimit {
  #counted = new Map<string, number>();
  #total = 0;
  /** Those that are over and still count, in the order in which they ended. */
  #recent: RecentHandshake[] = [];
  #now: () => number;

  /** @param now Returns the time in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Whether a dialer may begin another handshake. */
  permits(dialer: string): boolean {
    const now = this.#now();
    while (this.#recent[0] && this.#recent[0].untilMs <= now) this.#recent.shift()!.forget();
    return this.#of(dialer) < (this.#total < MANY ? MAX_OF_DIALER : 1);
  }

  /** Counts a handshake that begins. */
  begin(dialer: string): CountedHandshake {
    this.#counted.set(dialer, this.#of(dialer) + 1);
    this.#total++;
    const untilMs = this.#now() + MIN_COUNTED_MS;
    let isOver = false, isLetIn = false, isCounted = true;
    const forget = () => {
      if (isCounted) this.#forget(dialer);
      isCounted = false;
    };
    return {
      over: () => {
        isOver = true;
        if (isLetIn) forget();
        else this.#recent.push({ untilMs, forget });
      },
      letIn: () => {
        isLetIn = true;
        if (isOver) forget();
      },
    };
  }

  #forget(dialer: string): void {
    const left = this.#of(dialer) - 1;
    if (left > 0) this.#counted.set(dialer, left);
    else this.#counted.delete(dialer);
    this.#total--;
  }

  #of(dialer: string): number {
    return this.#counted.get(dialer) ?? 0;
  }
}
