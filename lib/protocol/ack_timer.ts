/** When an acknowledgement goes that nothing has carried along. */

import type { ReceiveHalf } from "./receive_half.ts";

/** Maximum time for which an acknowledgement waits for data to ride along with. */
const ACK_DELAY_MS = 50;

/** Has what came acknowledged after a while, unless that has been done meanwhile. */
export class AckTimer {
  #receive: ReceiveHalf;
  #onDue: () => void;
  #delayMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** How many acknowledgements had gone when the timer was set. */
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

  /** Sets it, unless it runs for the same acknowledgement. */
  set(): void {
    const { acksGiven } = this.#receive;
    if (this.#timer !== undefined && this.#setAfter === acksGiven) return;
    this.clear();
    this.#setAfter = acksGiven;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#receive.owesAck && this.#receive.acksGiven === acksGiven) this.#onDue();
    }, this.#delayMs);
  }

  /** Stops it. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
