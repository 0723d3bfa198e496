/** Decides which frames a session sends next, and puts them into writes. */

import type { AttachedCarrier } from "./carrier.ts";
import { FrameWriter } from "./frames.ts";
import type { ReceiveHalf } from "./receive_half.ts";
import type { SendHalf } from "./send_half.ts";

/** Maximum length of data that is copied behind its header, so that both go out in one write. */
const MAX_COPIED_BYTES = 48 * 1024;
/** Capacity for such data and the frames that may precede it, 45 bytes at most. */
const FRAMES_BYTES = MAX_COPIED_BYTES + 64;

/** Composes frames from the state of the two halves, and begins a generation on each new carrier. */
export class FrameComposer {
  #send: SendHalf;
  #receive: ReceiveHalf;
  #generation = 0;
  /** The carrier on which the present generation was begun. */
  #begunOn: AttachedCarrier | undefined;
  #frames = new FrameWriter(FRAMES_BYTES);
  readonly #due = { start: false, ack: false, stop: false };

  constructor(send: SendHalf, receive: ReceiveHalf) {
    this.#send = send;
    this.#receive = receive;
  }

  /** Has the next write begin a generation if its carrier is new, even if there is nothing else to send. */
  requestStart(): void {
    this.#due.start = true;
  }

  /** Has an acknowledgement in the next write, even if there is nothing else to send. */
  requestAck(): void {
    this.#due.ack = true;
  }

  /** Has a stop in the next write. */
  requestStop(): void {
    this.#due.stop = true;
  }

  /** Whether a request has not been composed yet. */
  get hasRequests(): boolean {
    return this.#due.start || this.#due.ack || this.#due.stop;
  }

  /** Whether a carrier has taken everything that was written, and the end. */
  hasSentAllOn(carrier: AttachedCarrier): boolean {
    return this.#begunOn === carrier && this.#send.isSent && !this.#send.isSending;
  }

  /** Has the next write begin a generation, since the carrier of the present one has failed. */
  abandonCarrier(): void {
    this.#begunOn = undefined;
  }

  /**
   * Composes the next write on a carrier.
   *
   * @param maxBytes Maximum length of the data in it.
   * @returns The pieces of the write, valid until {@linkcode endWrite}; none if there is nothing to send.
   */
  next(carrier: AttachedCarrier, maxBytes: number): Uint8Array[] {
    const due = this.#due, isChange = this.#begunOn !== carrier;
    const isWanted = due.ack || due.stop || (due.start && isChange) || this.#send.hasNext;
    due.start = false;
    if (!isWanted) return [];
    if (isChange) this.#begin(carrier);
    return this.#compose(maxBytes);
  }

  /** Says that the carrier has taken the last write. */
  endWrite(): void {
    this.#send.endWrite();
  }

  /** Says that the last write has failed. The carrier may still read its frames, so that their memory is not used again. */
  abandonWrite(): void {
    this.#send.endWrite();
    this.#frames = new FrameWriter(FRAMES_BYTES);
  }

  #begin(carrier: AttachedCarrier): void {
    this.#begunOn = carrier;
    this.#send.restart();
    this.#frames.start(++this.#generation);
    // They may have been lost with the carrier before.
    if (this.#generation > 1) this.#due.ack = true;
    if (this.#receive.state === "stopped") this.#due.stop = true;
  }

  #compose(maxBytes: number): Uint8Array[] {
    const frames = this.#frames, due = this.#due, next = this.#send.next(maxBytes);
    if (due.ack || this.#receive.owesAck) {
      const { received, limit } = this.#receive.ack();
      frames.ack(received, limit);
    }
    if (due.stop) frames.stop();
    due.ack = due.stop = false;
    if (next?.kind === "end") frames.end(next.total);
    if (next?.kind !== "data") return [frames.take()!];
    if (next.data.length <= MAX_COPIED_BYTES) {
      frames.data(next.offset, next.data);
      return [frames.take()!];
    }
    frames.dataHeader(next.offset, next.data.length);
    return [frames.take()!, next.data];
  }
}
