/** What a session sends: frames of data and acknowledgements, by one carrier at a time. */

import { delay } from "../async/abort.ts";
import { Notifier } from "../async/notifier.ts";
import { BLOCK_BYTES } from "../streams/block_queue.ts";
import type { AttachedCarrier } from "./carrier.ts";
import { FrameWriter } from "./frames.ts";
import type { ReceiveHalf } from "./receive_half.ts";
import type { SendHalf } from "./send_half.ts";

/** Maximum data of a frame at home: with all that may precede it, one call of iroh-js. */
const HOME_STEP_BYTES = 32 * 1024 - 64;
/** Data up to this length is copied behind its header, so that both go out in one write. */
const MAX_COPIED_BYTES = 48 * 1024;
/** Capacity for that, with the frames that may precede it. */
const FRAMES_BYTES = MAX_COPIED_BYTES + 64;
/**
 * Pause after each frame at home while a lane is being made, and the maximum of that time: iroh's
 * stream takes all of a processor at either end, which making the lane needs, too.
 */
const REST_MS = 10, MAX_REST_MS = 600;

/** Sends until it is closed, or its home carrier fails. */
export class Outbox {
  #send: SendHalf;
  #receive: ReceiveHalf;
  #home: AttachedCarrier;
  /** Undefined while there is none. */
  #carrier: AttachedCarrier | undefined;
  #onError: (carrier: AttachedCarrier, error: unknown) => void;
  /** The carrier on which the present generation was begun. */
  #begunOn: AttachedCarrier | undefined;
  #generation = 0;
  #frames = new FrameWriter(FRAMES_BYTES);
  readonly #due = { start: false, ack: false, stop: false };
  #state: "sending" | "idle" | "closed" = "sending";
  #changed = new Notifier();
  #idle = new Notifier();
  /** Not aborted while a lane is being made. */
  #resting = AbortSignal.abort();

  constructor(
    send: SendHalf,
    receive: ReceiveHalf,
    home: AttachedCarrier,
    onError: (carrier: AttachedCarrier, error: unknown) => void,
  ) {
    this.#send = send;
    this.#receive = receive;
    this.#home = home;
    this.#carrier = home;
    this.#onError = onError;
    this.#run();
  }

  /** Sends what there is to send. */
  wake(): void {
    this.#changed.notify();
  }

  /** Sends an acknowledgement, alone if need be. */
  ackNow(): void {
    this.#due.ack = true;
    this.#changed.notify();
  }

  /** Tells the other end that this one reads no further. */
  stopNow(): void {
    this.#due.stop = true;
    this.#changed.notify();
  }

  /** Rests between frames, until `made` settles, which never rejects. */
  restUntil(made: Promise<void>): void {
    const isMade = new AbortController();
    this.#resting = AbortSignal.any([isMade.signal, AbortSignal.timeout(MAX_REST_MS)]);
    made.then(() => isMade.abort());
  }

  /** Goes on by another carrier, as soon as the frame has left that is being sent. */
  switchTo(carrier: AttachedCarrier): void {
    this.#carrier = carrier;
    this.#due.start = true;
    this.#changed.notify();
  }

  /** Goes on at home if it used this carrier, which is closed; without one if it was its home. */
  returnFrom(carrier: AttachedCarrier): void {
    if (this.#carrier !== carrier) return;
    this.#frames = new FrameWriter(FRAMES_BYTES); // a write that was given up may still read the old one
    if (this.#home.dropped.aborted) this.#carrier = undefined;
    else this.switchTo(this.#home);
  }

  /** Has another home, and uses it if it has no carrier. */
  setHome(home: AttachedCarrier): void {
    this.#home = home;
    if (!this.#carrier || this.#carrier.dropped.aborted) this.switchTo(home);
  }

  /** Whether all that was written, and its end, was handed to this carrier. */
  hasSentAllOn(carrier: AttachedCarrier): boolean {
    return this.#begunOn === carrier && this.#state === "idle" && this.#send.isSent;
  }

  /** Resolves when nothing is left to be sent now, or nothing can be sent. */
  async flush(): Promise<void> {
    while (this.#state === "sending" || this.#hasDue) {
      if (this.#isClosed() || !this.#carrier) return;
      await this.#idle.next();
    }
  }

  /** Sends nothing more. */
  close(): void {
    this.#state = "closed";
    this.#changed.notify();
    this.#idle.notify();
  }

  #isClosed(): boolean {
    return this.#state === "closed";
  }

  get #hasDue(): boolean {
    return this.#due.start || this.#due.ack || this.#due.stop;
  }

  async #run(): Promise<void> {
    while (!this.#isClosed()) {
      const carrier = this.#carrier;
      const pieces = carrier ? this.#next(carrier) : [];
      if (!carrier || pieces.length === 0) {
        this.#state = "idle";
        this.#idle.notify();
        await this.#changed.next();
        if (!this.#isClosed()) this.#state = "sending";
        continue;
      }
      try {
        await carrier.send(...pieces);
        if (carrier === this.#home && !this.#resting.aborted) {
          await delay(REST_MS, this.#resting).catch(() => {}); // it is made, or time is over
        }
      } catch (error) {
        if (this.#isClosed()) return;
        this.#onError(carrier, error);
        if (this.#carrier === carrier) this.#carrier = undefined; // it is good for nothing
      }
    }
  }

  /** What to write next: frames, and the data of the last one if it is long. */
  #next(carrier: AttachedCarrier): Uint8Array[] {
    const frames = this.#frames, isChange = this.#due.start && this.#begunOn !== carrier;
    this.#due.start = false;
    const wantsToSend = this.#due.ack || this.#due.stop || isChange || this.#send.hasNext;
    if (!wantsToSend) return [];
    if (this.#begunOn !== carrier) {
      this.#begunOn = carrier;
      this.#send.restart();
      frames.start(++this.#generation);
      this.#due.ack ||= this.#generation > 1;
      this.#due.stop ||= this.#receive.state === "stopped";
    }
    const next = this.#send.next(carrier === this.#home ? HOME_STEP_BYTES : BLOCK_BYTES);
    if (this.#due.ack || this.#receive.owesAck) {
      const { received, limit } = this.#receive.ack();
      frames.ack(received, limit);
    }
    if (this.#due.stop) frames.stop();
    this.#due.ack = this.#due.stop = false;
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
