/** Tells when a session has moved so much that a lane pays, in bytes or in exchanges. */

import type { Session } from "../protocol/session.ts";

/**
 * Bytes of a session after which it asks for a lane. Making a lane takes as long as iroh needs for about
 * 1 MiB (docs/benchmarks.md). To ask at a quarter of that costs a shorter session at most 100 ms, and saves
 * a longer one as much.
 */
const LANE_AFTER_BYTES = 256 * 1024;
/**
 * Exchanges of a session after which it asks for a lane, however few their bytes. A lane saves 0.2 to 0.4 ms of each,
 * and costs what 200 to 300 save (docs/benchmarks.md). So a session that ends soon after it has asked loses little of
 * its time. A fetch, a push, or the transfer of one file has less than ten.
 */
const LANE_AFTER_EXCHANGES = 256;
/**
 * Maximum time for that many exchanges. If the round trip takes longer, a lane saves little of it. A session that
 * waits for news all day should have no lane, at which both ends look twice a second.
 */
const EXCHANGES_WITHIN_MS = 8_000;

/** What a session has moved since it last had a reason to count anew. */
export class LaneDemand {
  #fromBytes = LANE_AFTER_BYTES;
  #exchanges = 0;
  /** When the count of exchanges began. */
  #begin = 0;
  /** What the session had moved at the last exchange. */
  #sent = 0;
  #received = 0;

  /**
   * Counts what a session has moved.
   *
   * @param now As `performance.now()` returns it.
   * @returns Whether a lane pays.
   */
  count({ sent, received }: Pick<Session, "sent" | "received">, now: number): boolean {
    if (sent > this.#sent && received > this.#received) {
      if (this.#exchanges === 0 || now - this.#begin > EXCHANGES_WITHIN_MS) {
        this.#begin = now;
        this.#exchanges = 0;
      }
      this.#exchanges++;
      this.#sent = sent;
      this.#received = received;
    }
    return sent + received >= this.#fromBytes || this.#exchanges >= LANE_AFTER_EXCHANGES;
  }

  /** Counts anew from what a session has moved so far. */
  restart({ sent, received }: Pick<Session, "sent" | "received">): void {
    this.#fromBytes = sent + received + LANE_AFTER_BYTES;
    this.#exchanges = 0;
    this.#sent = sent;
    this.#received = received;
  }
}
