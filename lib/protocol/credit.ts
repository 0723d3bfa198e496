/**
 * Flow control, as in QUIC (RFC 9000, section 4) and HTTP/2: how far a sender may go beyond what its receiver has
 * passed on.
 */

import { ByteBudget } from "../streams/byte_budget.ts";

/** Credit at the start of each direction. Both ends know it, so that no frame has to grant it. */
export const INITIAL_WINDOW_BYTES = 256 * 1024;
/** Maximum credit of a direction. 100 MB/s at a round trip of 50 ms keep 5 MB under way; jitter needs more. */
export const MAX_WINDOW_BYTES = 8 << 20;
/**
 * Maximum of all that the sessions of this process may grant beyond their initial credit: six of them have
 * the maximum. A listener with a hundred sessions whose readers stand still then takes less than 300 MiB.
 */
const BUDGET_BYTES = 48 << 20;
/**
 * Maximum time for passing on a window if the window, not the reader, limits the sender. It is longer than most
 * round trips.
 */
const KEEPS_UP_MS = 200;

const processBudget = new ByteBudget(BUDGET_BYTES);

/** The credit of a direction, as its receiver grants it. Dispose of it at the end of the direction. */
export class CreditWindow implements Disposable {
  /** Number of bytes that the sender may go beyond what was passed on. */
  bytes = INITIAL_WINDOW_BYTES;
  /** Whether the window may grow. It may not for a stranger. */
  mayGrow = false;
  #budget: ByteBudget;
  #now: () => number;
  #passedOn = 0;
  #since: number;

  /** @param now Returns the time in milliseconds. */
  constructor(budget = processBudget, now: () => number = () => performance.now()) {
    this.#budget = budget;
    this.#now = now;
    this.#since = now();
  }

  /** Notes that the reader has taken bytes. @param waiting Number of bytes that it has not taken yet. */
  onPassedOn(bytes: number, waiting: number): void {
    this.#passedOn += bytes;
    if (this.#passedOn < this.bytes) return;
    const now = this.#now(), keepsUp = now - this.#since < KEEPS_UP_MS;
    this.#passedOn = 0;
    this.#since = now;
    const canDouble = this.mayGrow && this.bytes < MAX_WINDOW_BYTES && waiting < this.bytes / 2;
    if (keepsUp && canDouble && this.#budget.take(this.bytes)) this.bytes *= 2;
  }

  /** Gives back what was taken from the budget. */
  [Symbol.dispose](): void {
    this.#budget.give(this.bytes - INITIAL_WINDOW_BYTES);
    this.bytes = INITIAL_WINDOW_BYTES;
  }
}
