/**
 * How long to wait before answering who is there, so that all who are on a network are heard. iroh programs
 * answer after a random time that grows with how many there are, later when they have answered lately, and not
 * at all once two others have (swarm-discovery 0.6, sender.rs and updater.rs). Whoever answers sooner, or
 * more often, keeps them from ever being heard.
 */

const DELAY_MS = 100;
/** Answers to one question. */
export const ANSWERS_ENOUGH = 2;
/** An endpoint not heard again in this time, for each there is, is gone. */
const HEARD_MS = 1_050;
/** However many claim to be there: no answer waits for longer than some seconds. */
const MOST_HEARD = 40;
const MOST_BACKOFF = 10;

/** What one endpoint goes by. Times are of `performance.now()`, in milliseconds. */
export class ResponseSuppression {
  /** How many times the delay is added, for having answered lately. */
  #backoff = 0;
  /** When each of the others was last heard, the oldest first. */
  #heard = new Map<string, number>();

  /** Another endpoint has said where it is. */
  heard(key: string, now: number): void {
    this.#heard.delete(key);
    if (this.#heard.size < MOST_HEARD) this.#heard.set(key, now);
  }

  /** How long to wait before answering, in milliseconds. */
  delay(now: number): number {
    const growing = Math.random() * this.#size(now) / ANSWERS_ENOUGH;
    return (growing + this.#backoff) * DELAY_MS;
  }

  /** A question has been answered by this endpoint. */
  answered(now: number): void {
    this.#backoff = Math.min(Math.floor(this.#size(now) / ANSWERS_ENOUGH), MOST_BACKOFF);
  }

  /** A question has been answered by others. */
  suppressed(): void {
    this.#backoff = Math.max(this.#backoff - 1, 0);
  }

  /** How many there are, this one included. */
  #size(now: number): number {
    const since = now - HEARD_MS * Math.max(this.#heard.size + 1, ANSWERS_ENOUGH);
    for (const [key, time] of this.#heard) if (time < since) this.#heard.delete(key);
    return this.#heard.size + 1;
  }
}
