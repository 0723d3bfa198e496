/** The receiving half of a session: keeps what waits for the reader, and grants credit. */

import { BlockQueue } from "../streams/block_queue.ts";
import { CreditWindow } from "./credit.ts";
import { FrameError } from "./frames.ts";

/** State of a receiving half. */
export type ReceiveState =
  /** More may come. */
  | "open"
  /** The end has come. The reader may not have taken everything. */
  | "ended"
  /** The reader reads no further. What comes is dropped until the end comes. */
  | "stopped"
  /** The reader reads no further, and the end has come. */
  | "done";

/** Maximum number of bytes that wait for an acknowledgement: 3 % of the greatest window. */
const MAX_UNACKNOWLEDGED_BYTES = 256 * 1024;

/** Keeps offsets, credit, and the bytes that wait for the reader. It does not know any carrier. */
export class ReceiveHalf {
  state: ReceiveState = "open";
  /** Number of bytes that have come. What is dropped does not count. */
  received = 0;
  readonly window: CreditWindow;
  #waiting = new BlockQueue();
  #passedOn = 0;
  /** What the sender was told last: the value of {@linkcode #total}, and the limit. */
  #acknowledged = 0;
  #granted: number;
  /** Number of acknowledgements given. */
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

  /** What is acknowledged: the number of bytes received, plus one once the end has come. */
  get #total(): number {
    return this.#end === undefined ? this.received : this.#end + 1;
  }

  /** Expects what is not acknowledged again, since the sender begins on another carrier. */
  restart(): void {
    this.#hasEndHere = false;
  }

  /** Takes data. @throws {FrameError} if it leaves a gap, exceeds the credit, or comes after the end. */
  onData(offset: number, data: Uint8Array<ArrayBuffer>): void {
    if (this.#hasEndHere) throw new FrameError("data after the end");
    if (this.state === "stopped" || this.state === "done") return;
    const end = offset + data.length;
    if (offset > this.received) {
      throw new FrameError(`data from ${offset}, where ${this.received} bytes have come`);
    }
    if (end > this.#granted) throw new FrameError("more data than was granted");
    if (end <= this.received) return; // it is sent again
    if (this.state === "ended") throw new FrameError("data after the end");
    const fresh = data.subarray(this.received - offset);
    this.received = end;
    this.#waiting.append(fresh);
  }

  /** Takes the end. @throws {FrameError} if the data does not end there, or a second end comes by one carrier. */
  onEnd(total: number): void {
    if (this.#hasEndHere) throw new FrameError("a second end");
    this.#hasEndHere = true;
    const isDropping = this.state === "stopped" || this.state === "done";
    // Data that is dropped is not counted, so it may end anywhere after what was received.
    const expected = this.#end ?? (isDropping ? Math.max(total, this.received) : this.received);
    if (total !== expected) throw new FrameError(`an end after ${total} bytes, not ${expected}`);
    this.#end = total;
    this.state = isDropping ? "done" : "ended";
  }

  /** Number of bytes that wait for the reader. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Returns the next bytes for the reader; undefined if none wait. */
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

  /** Drops what waits, since the reader reads no further. @returns Whether the sender must be told. */
  stop(): boolean {
    const wasOpen = this.state === "open";
    if (wasOpen) this.state = "stopped";
    else if (this.state === "ended") this.state = "done";
    this.discard();
    return wasOpen;
  }

  /** Gives back its memory and its credit. */
  discard(): void {
    this.#waiting.clear();
    this.window[Symbol.dispose]();
  }

  /** Offset up to which the sender may send. */
  get #limit(): number {
    if (this.hasEnded) return this.#granted;
    return Math.max(this.#granted, this.#passedOn + this.window.bytes);
  }

  /** Whether there is something to acknowledge or to grant. */
  get owesAck(): boolean {
    return this.#total > this.#acknowledged || this.#limit > this.#granted;
  }

  /** Whether the acknowledgement must go at once, since the sender may have to stop without it. */
  get owesAckNow(): boolean {
    const most = Math.min(MAX_UNACKNOWLEDGED_BYTES, this.window.bytes / 4);
    return this.#total - this.#acknowledged >= most || this.#limit - this.#granted >= most ||
      (this.hasEnded && this.#total > this.#acknowledged);
  }

  /** Returns an acknowledgement, and counts it as sent. */
  ack(): { readonly received: number; readonly limit: number } {
    this.#acknowledged = this.#total;
    this.#granted = this.#limit;
    this.acksGiven++;
    return { received: this.#total, limit: this.#granted };
  }
}
