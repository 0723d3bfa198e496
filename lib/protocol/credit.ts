/**
 * How much a sender may have under way before its receiver has passed it on (flow control, as QUIC and
 * HTTP/2 have it: RFC 9000, section 4).
 */

import { ByteBudget } from "../streams/byte_budget.ts";

/** Credit at the start of each direction, of which both ends know without a word. */
export const INITIAL_WINDOW_BYTES = 256 * 1024;
/** Maximum credit of a direction: 100 MB/s at a round trip of 50 ms keep 5 MB under way, and jitter more. */
export const MAX_WINDOW_BYTES = 8 << 20;
/**
 * Maximum of all that the sessions of this process may grant beyond their initial credit: six of them have
 * the maximum. A listener with a hundred sessions whose readers stand still then takes less than 300 MiB.
 */
const BUDGET_BYTES = 48 << 20;
/**
 * If a whole window is passed on within this time, the window is what limits the sender, rather than
 * the reader: longer than most round trips.
 */
const KEEPS_UP_MS = 200;

const processBudget = new ByteBudget(BUDGET_BYTES);

/** The credit that a receiver grants. Dispose of it at the end of its direction. */
export class CreditWindow implements Disposable {
  /** How far beyond what was passed on the sender may go. */
  bytes = INITIAL_WINDOW_BYTES;
  /** Whether it may grow: not for a stranger. */
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

  /** Notes that the reader has taken so many bytes. @param waiting Bytes that it has not taken yet. */
  onPassedOn(bytes: number, waiting: number): void {
    this.#passedOn += bytes;
    if (this.#passedOn < this.bytes) return;
    const now = this.#now(), keepsUp = now - this.#since < KEEPS_UP_MS;
    this.#passedOn = 0;
    this.#since = now;
    const canDouble = this.mayGrow && this.bytes < MAX_WINDOW_BYTES && waiting < this.bytes / 2;
    if (keepsUp && canDouble && this.#budget.take(this.bytes)) this.bytes *= 2;
  }

  /** Gives back what was taken beyond the initial credit. */
  [Symbol.dispose](): void {
    this.#budget.give(this.bytes - INITIAL_WINDOW_BYTES);
    this.bytes = INITIAL_WINDOW_BYTES;
  }
}
