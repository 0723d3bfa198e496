/** The receiving half of a session: what has come, what the reader has taken, and what is granted. */

import { BlockQueue } from "../streams/block_queue.ts";
import { CreditWindow } from "./credit.ts";
import { FrameError } from "./frames.ts";

/** Where a receiving half stands. */
export type ReceiveState =
  /** More may come. */
  | "open"
  /** The end has come; the reader may not have taken all. */
  | "ended"
  /** The reader wants no more; what comes is dropped until the end comes. */
  | "stopped"
  /** The reader wants no more, and the end has come. */
  | "done";

/** Maximum number of bytes that are not acknowledged at once while more come. */
const MAX_UNACKNOWLEDGED_BYTES = 256 * 1024;

/** Offsets, credit, and the bytes that wait for the reader. It knows of no carrier. */
export class ReceiveHalf {
  state: ReceiveState = "open";
  /** Bytes that have come, in all. */
  received = 0;
  readonly window: CreditWindow;
  #waiting = new BlockQueue();
  #passedOn = 0;
  /** What the sender was told last. */
  #acknowledged = 0;
  #granted: number;
  /** How often the sender was told. */
  acksGiven = 0;
  /** Where the data ends; undefined until the end has come. */
  #end: number | undefined;
  /** Whether the end has come on the present carrier. */
  #hasEndHere = false;

  constructor(window = new CreditWindow()) {
    this.window = window;
    this.#granted = window.bytes;
  }

  /** Whether the end has come. */
  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  /** What is acknowledged: bytes received, or all of them and one more for the end. */
  get #total(): number {
    return this.#end === undefined ? this.received : this.#end + 1;
  }

  /** The sender begins on another carrier: what is not acknowledged comes again. */
  restart(): void {
    this.#hasEndHere = false;
  }

  /** @throws {FrameError} if bytes would be missing, more come than were granted, or any after the end. */
  onData(offset: number, data: Uint8Array<ArrayBuffer>): void {
    if (this.#hasEndHere) throw new FrameError("data after the end");
    if (this.state === "stopped" || this.state === "done") return;
    const end = offset + data.length;
    if (offset > this.received) {
      throw new FrameError(`data from ${offset}, where ${this.received} bytes have come`);
    }
    if (end > this.#granted) throw new FrameError("more data than was granted");
    if (end <= this.received) return; // it has come before
    if (this.state === "ended") throw new FrameError("data after the end");
    const fresh = data.subarray(this.received - offset);
    this.received = end;
    this.#waiting.append(fresh);
  }

  /** @throws {FrameError} if the data does not end there, or the end comes twice on one carrier. */
  onEnd(total: number): void {
    if (this.#hasEndHere) throw new FrameError("a second end");
    this.#hasEndHere = true;
    const isDropping = this.state === "stopped" || this.state === "done";
    // What is dropped is not counted, so its end may be anywhere after what was received.
    const expected = this.#end ?? (isDropping ? Math.max(total, this.received) : this.received);
    if (total !== expected) throw new FrameError(`an end after ${total} bytes, not ${expected}`);
    this.#end = total;
    this.state = isDropping ? "done" : "ended";
  }

  /** Bytes that wait for the reader. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Takes what waits for the reader; undefined if nothing does now. */
  take(): Uint8Array<ArrayBuffer> | undefined {
    const piece = this.#waiting.take();
    if (!piece) return undefined;
    this.#passedOn += piece.length;
    this.window.onPassedOn(piece.length, this.#waiting.length);
    return piece;
  }

  /** Takes back the memory of a piece. */
  release(piece: Uint8Array<ArrayBuffer>): void {
    this.#waiting.release(piece);
  }

  /** The reader wants no more. @returns Whether the sender must be told. */
  stop(): boolean {
    const wasOpen = this.state === "open";
    if (wasOpen) this.state = "stopped";
    else if (this.state === "ended") this.state = "done";
    this.discard();
    return wasOpen;
  }

  /** Gives its memory and its credit back. */
  discard(): void {
    this.#waiting.clear();
    this.window[Symbol.dispose]();
  }

  /** What the sender may send, from the beginning of the session. */
  get #limit(): number {
    if (this.hasEnded) return this.#granted;
    return Math.max(this.#granted, this.#passedOn + this.window.bytes);
  }

  /** Whether the sender has something to hear. */
  get owesAck(): boolean {
    return this.#total > this.#acknowledged || this.#limit > this.#granted;
  }

  /** Whether that must not wait for a quiet moment: the sender might have to stop. */
  get owesAckNow(): boolean {
    const most = Math.min(MAX_UNACKNOWLEDGED_BYTES, this.window.bytes / 4);
    return this.#total - this.#acknowledged >= most || this.#limit - this.#granted >= most ||
      (this.hasEnded && this.#total > this.#acknowledged);
  }

  /** Returns what the sender is to be told, and counts it as told. */
  ack(): { readonly received: number; readonly limit: number } {
    this.#acknowledged = this.#total;
    this.#granted = this.#limit;
    this.acksGiven++;
    return { received: this.#total, limit: this.#granted };
  }
}
