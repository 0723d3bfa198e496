/** Decides when an acknowledgement is sent alone. */

import type { ReceiveHalf } from "./receive_half.ts";

/** Maximum time for which an acknowledgement waits for data to ride along with. */
const ACK_DELAY_MS = 50;

/** Has what came acknowledged after a while, unless an acknowledgement has gone with data meanwhile. */
export class AckTimer {
  #receive: ReceiveHalf;
  #onDue: () => void;
  #delayMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the acknowledgement is due, and number of acknowledgements that had been given when it was set. */
  #dueAt = 0;
  #setAfter = 0;

  /**
   * @param onDue Called when an acknowledgement has to go alone.
   * @param delayMs Time for which an acknowledgement waits, for tests.
   */
  constructor(receive: ReceiveHalf, onDue: () => void, delayMs = ACK_DELAY_MS) {
    this.#delayMs = delayMs;
    this.#receive = receive;
    this.#onDue = onDue;
  }

  /**
   * Sets the timer, unless it runs for the same acknowledgement. A timer that runs for an earlier one goes on: to
   * replace it costs more than all else that is done for a small message.
   */
  set(): void {
    const { acksGiven } = this.#receive;
    if (this.#timer !== undefined && this.#setAfter === acksGiven) return;
    this.#setAfter = acksGiven;
    this.#dueAt = performance.now() + this.#delayMs;
    if (this.#timer === undefined) this.#start(this.#delayMs);
  }

  #start(delayMs: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (!this.#receive.owesAck) return;
      const leftMs = this.#dueAt - performance.now();
      if (leftMs > 0) this.#start(leftMs);
      else this.#onDue();
    }, delayMs);
  }

  /** Clears the timer. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
