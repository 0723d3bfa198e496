/**
 * Decides how long a responder waits before it answers a query for all endpoints, and when it stays silent.
 *
 * The purpose is that every endpoint on a network is heard. iroh programs answer after a random time that
 * grows with the number of endpoints. They answer later if they have answered lately, and not at all after two
 * answers of others (swarm-discovery 0.6, sender.rs and updater.rs). A responder that answered sooner or more
 * often would silence them for good. RFC 6762 has such a delay in section 6, and suppression in section 7.4.
 */

/** Step of the delay, from swarm-discovery. */
const DELAY_MS = 100;
/** Number of answers to one query after which no other endpoint answers, from swarm-discovery. */
export const SUFFICIENT_ANSWERS = 2;
/** Time after which an endpoint counts as gone, multiplied by the number of endpoints; from swarm-discovery. */
const EXPIRY_MS = 1_050;
/** Maximum number of other endpoints that count, so that a flood of false ones delays no answer for long. */
const MAX_OTHERS = 40;
/** Maximum of the backoff, in steps of the delay. */
const MAX_BACKOFF = 10;

/** The delay of one endpoint's answers. Times are those of `performance.now()`, in milliseconds. */
export class ResponseSuppression {
  /** Steps that are added to the delay, because this endpoint has answered lately. */
  #backoff = 0;
  /** When each other endpoint was last heard, the oldest first. */
  #heard = new Map<string, number>();

  /** Takes note of another endpoint's announcement. */
  heard(key: string, now: number): void {
    this.#heard.delete(key);
    if (this.#heard.size < MAX_OTHERS) this.#heard.set(key, now);
  }

  /** Returns the time to wait before the next answer, in milliseconds. */
  delay(now: number): number {
    const random = Math.random() * this.#endpoints(now) / SUFFICIENT_ANSWERS;
    return (random + this.#backoff) * DELAY_MS;
  }

  /** Takes note that this endpoint has answered a query. */
  answered(now: number): void {
    this.#backoff = Math.min(Math.floor(this.#endpoints(now) / SUFFICIENT_ANSWERS), MAX_BACKOFF);
  }

  /** Takes note that others have answered a query in this endpoint's place. */
  suppressed(): void {
    this.#backoff = Math.max(this.#backoff - 1, 0);
  }

  /** Counts the endpoints on the network, with this one. */
  #endpoints(now: number): number {
    const since = now - EXPIRY_MS * Math.max(this.#heard.size + 1, SUFFICIENT_ANSWERS);
    for (const [key, time] of this.#heard) if (time < since) this.#heard.delete(key);
    return this.#heard.size + 1;
  }
}
