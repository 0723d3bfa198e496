/** The sending half of a session: keeps what is not acknowledged, and knows what is to be sent next. */

import { BlockQueue } from "../streams/block_queue.ts";
import { INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES } from "./credit.ts";
import { FrameError } from "./frames.ts";

/** State of a sending half. */
export type SendState =
  /** More may be written. */
  | "open"
  /** The end has been written, but not everything is acknowledged. */
  | "ended"
  /** Data and end are acknowledged. */
  | "done";

/** Content of the frame that is to be sent next. */
export type NextFrame =
  | { readonly kind: "data"; readonly offset: number; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly kind: "end"; readonly total: number };

/** Keeps offsets, credit, and the bytes that may have to be sent again. It does not know any carrier. */
export class SendHalf {
  state: SendState = "open";
  /** Whether the receiver reads no further. */
  isStopped = false;
  /** Number of bytes that the receiver has acknowledged, plus one for the end. */
  acknowledged = 0;
  /** Number of bytes that were written. */
  written = 0;
  /** Whether a carrier is taking what {@linkcode next} has returned last. */
  isSending = false;
  #unacknowledged = new BlockQueue();
  /** Offset of what is sent next on the present carrier; `written` + 1 once the end has been sent. */
  #next = 0;
  /** Maximum that {@linkcode #next} has been, on any carrier. */
  #sent = 0;
  #limit = INITIAL_WINDOW_BYTES;

  /** Maximum number of bytes that may be written now. It limits memory, too, however much the peer grants. */
  get room(): number {
    return Math.max(0, Math.min(this.#limit, this.acknowledged + MAX_WINDOW_BYTES) - this.written);
  }

  /** Whether the receiver has yet to acknowledge something that was written. */
  get isInFlight(): boolean {
    return this.state !== "done" && this.acknowledged < this.#last;
  }

  /** Whether everything, including the end if it was written, was sent on the present carrier. */
  get isSent(): boolean {
    return this.state === "done" || this.#next === this.#last;
  }

  /** Value of {@linkcode acknowledged} once everything is acknowledged. */
  get #last(): number {
    return this.written + (this.state === "open" ? 0 : 1);
  }

  /** Takes a copy of bytes to send, at most {@linkcode room}. */
  write(bytes: Uint8Array): void {
    if (this.isStopped) return;
    this.#unacknowledged.append(bytes);
    this.written += bytes.length;
  }

  /** Writes the end. */
  end(): void {
    if (this.state === "open") this.state = "ended";
  }

  /** Goes back to what is not acknowledged, since another carrier begins there. */
  restart(): void {
    this.#next = this.acknowledged;
  }

  /** Whether there is something to send. */
  get hasNext(): boolean {
    return this.#next < this.written || (this.state === "ended" && this.#next === this.written);
  }

  /**
   * Returns what is to be sent next, and counts it as sent. The data is valid until {@linkcode endWrite}.
   *
   * @param most Maximum length of the data.
   */
  next(most: number): NextFrame | undefined {
    if (!this.hasNext) return undefined;
    this.isSending = true;
    if (this.#next === this.written) {
      this.#sent = ++this.#next;
      return { kind: "end", total: this.written };
    }
    const offset = this.#next;
    const data = this.#unacknowledged.view(offset - this.#first, most);
    this.#next += data.length;
    this.#sent = Math.max(this.#sent, this.#next);
    return { kind: "data", offset, data };
  }

  /** Says that the carrier has taken what was returned last, or has failed. */
  endWrite(): void {
    this.isSending = false;
    this.#unacknowledged.endView();
  }

  /** Offset of the first byte that is kept. */
  get #first(): number {
    return this.written - this.#unacknowledged.length;
  }

  /** @throws {FrameError} if the receiver acknowledges what was not sent, or takes credit back. */
  onAck(received: number, limit: number): void {
    if (limit < this.#limit) throw new FrameError("credit that shrinks");
    if (received > this.#sent) {
      throw new FrameError(
        `an acknowledgement of ${received} bytes, where ${this.#sent} were sent`,
      );
    }
    this.#limit = limit;
    if (this.state === "done") return;
    if (this.isStopped) { // the receiver drops data, so only the end counts
      if (received === this.written + 1) this.#finish();
      return;
    }
    if (received < this.acknowledged) {
      throw new FrameError(
        `an acknowledgement of ${received} bytes, after one of ${this.acknowledged}`,
      );
    }
    this.acknowledged = received;
    const kept = Math.min(received, this.written) - this.#first;
    if (kept > 0) this.#unacknowledged.discard(kept);
    // It may have come by the carrier before.
    this.#next = Math.max(this.#next, Math.min(received, this.written));
    if (this.state === "ended" && received === this.written + 1) this.#finish();
  }

  /** Counts everything as acknowledged, and has the end sent at once, since the receiver reads no further. */
  onStop(): void {
    if (this.state === "done") return;
    this.isStopped = true;
    this.#unacknowledged.clear();
    this.acknowledged = this.written;
    this.state = "ended";
    this.#next = Math.max(this.#next, this.written);
  }

  #finish(): void {
    this.state = "done";
    this.acknowledged = this.written + 1;
    this.#unacknowledged.clear();
  }

  /** Gives back its memory. */
  discard(): void {
    this.#unacknowledged.clear();
  }
}
