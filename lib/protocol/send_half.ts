/** The sending half of a session: what is not acknowledged, and what is to be sent next. */

import { BlockQueue } from "../streams/block_queue.ts";
import { INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES } from "./credit.ts";
import { FrameError } from "./frames.ts";

/** Where a sending half stands. */
export type SendState =
  /** More may be written. */
  | "open"
  /** All has been written, and not all is acknowledged. */
  | "ended"
  /** Data and end are acknowledged. */
  | "done";

/** What is to be sent next. */
export type NextFrame =
  | { readonly kind: "data"; readonly offset: number; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly kind: "end"; readonly total: number };

/** Offsets, credit, and the bytes that may have to be sent again. It knows of no carrier. */
export class SendHalf {
  state: SendState = "open";
  /** Whether the receiver has said that it reads no further. */
  isStopped = false;
  /** Bytes that the receiver has, one more for the end. */
  acknowledged = 0;
  /** Bytes that were written, in all. */
  written = 0;
  /** Whether what {@linkcode next} has returned last is being handed to the carrier. */
  isSending = false;
  #unacknowledged = new BlockQueue();
  /** Offset of what is sent next on the present carrier; one more than `written` if the end has been. */
  #next = 0;
  /** The greatest that {@linkcode #next} has been, on any carrier. */
  #sent = 0;
  #limit = INITIAL_WINDOW_BYTES;

  /** How many bytes may be written now. However much the receiver grants, not more is kept than it needs. */
  get room(): number {
    return Math.max(0, Math.min(this.#limit, this.acknowledged + MAX_WINDOW_BYTES) - this.written);
  }

  /** Whether the receiver has yet to acknowledge something that was written. */
  get isInFlight(): boolean {
    return this.state !== "done" && this.acknowledged < this.#last;
  }

  /** Whether all that was written, and the end if there is one, was sent on the present carrier. */
  get isSent(): boolean {
    return this.state === "done" || this.#next === this.#last;
  }

  /** What is acknowledged when nothing is missing any more. */
  get #last(): number {
    return this.written + (this.state === "open" ? 0 : 1);
  }

  /** Takes bytes to send, at most {@linkcode room}; they are copied. */
  write(bytes: Uint8Array): void {
    if (this.isStopped) return;
    this.#unacknowledged.append(bytes);
    this.written += bytes.length;
  }

  /** Says that nothing more will be written. */
  end(): void {
    if (this.state === "open") this.state = "ended";
  }

  /** Begins on another carrier: what is not acknowledged is sent again. */
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
    if (this.isStopped) { // of what the receiver drops, only the end counts
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
    this.#next = Math.max(this.#next, Math.min(received, this.written)); // it came by the carrier before
    if (this.state === "ended" && received === this.written + 1) this.#finish();
  }

  /** The receiver reads no further: all counts as acknowledged, and the end is sent at once. */
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

  /** Gives its memory back. */
  discard(): void {
    this.#unacknowledged.clear();
  }
}
