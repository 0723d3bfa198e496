/** Sends the frames of a session by one carrier at a time. */

import { delay } from "../async/abort.ts";
import { Notifier } from "../async/notifier.ts";
import { BLOCK_BYTES } from "../streams/block_queue.ts";
import type { AttachedCarrier } from "./carrier.ts";
import type { FrameComposer } from "./frame_composer.ts";

/** Maximum data of a frame at home. With the frames that may precede it, it fits into one call of iroh-js. */
const HOME_STEP_BYTES = 32 * 1024 - 64;
/** Interval between two frames at home while a lane is being made. */
const REST_MS = 10;
/**
 * Maximum time for which a session slows down at home. iroh's stream takes all of a processor at either end, and the
 * making of the lane needs one, too.
 */
const MAX_REST_MS = 600;

/** What an outbox tells its owner. */
export interface OutboxEvents {
  /** Called when everything has been sent. */
  readonly onIdle: () => void;
  /** Called when a carrier fails. */
  readonly onError: (carrier: AttachedCarrier, error: unknown) => void;
}

/** Sends until it is closed. Without a carrier, it waits for one. */
export class Outbox {
  #composer: FrameComposer;
  #home: AttachedCarrier;
  /** Undefined while there is none. */
  #carrier: AttachedCarrier | undefined;
  #events: OutboxEvents;
  #state: "sending" | "idle" | "closed" = "sending";
  #changed = new Notifier();
  #idle = new Notifier();
  /** Not aborted while a lane is being made. */
  #resting = AbortSignal.abort();

  constructor(composer: FrameComposer, home: AttachedCarrier, events: OutboxEvents) {
    this.#composer = composer;
    this.#home = home;
    this.#carrier = home;
    this.#events = events;
    this.#run();
  }

  /** Looks for something to send. */
  wake(): void {
    this.#changed.notify();
  }

  /** Sends an acknowledgement, alone if there is no data. */
  ackNow(): void {
    this.#composer.requestAck();
    this.#changed.notify();
  }

  /** Tells the peer that this end reads no further. */
  stopNow(): void {
    this.#composer.requestStop();
    this.#changed.notify();
  }

  /** Slows down at home until `made` settles, which never rejects. */
  restUntil(made: Promise<void>): void {
    const isMade = new AbortController();
    this.#resting = AbortSignal.any([isMade.signal, AbortSignal.timeout(MAX_REST_MS)]);
    made.then(() => isMade.abort());
  }

  /** Goes on by another carrier after the present write. */
  switchTo(carrier: AttachedCarrier): void {
    this.#carrier = carrier;
    this.#composer.requestStart();
    this.#changed.notify();
  }

  /** Goes on at home if it used this carrier, which is closed; without one if that was its home. */
  returnFrom(carrier: AttachedCarrier): void {
    if (this.#carrier !== carrier) return;
    this.#composer.abandonCarrier();
    if (this.#home.dropped.aborted) this.#carrier = undefined;
    else this.switchTo(this.#home);
  }

  /** Has another home, and uses it if it has no carrier. */
  setHome(home: AttachedCarrier): void {
    this.#home = home;
    if (!this.#carrier || this.#carrier.dropped.aborted) this.switchTo(home);
  }

  /** Resolves when everything has been sent, or nothing can be sent any longer. */
  async flush(): Promise<void> {
    while (this.#state === "sending" || this.#composer.hasRequests) {
      if (this.#isClosed() || !this.#carrier) return;
      await this.#idle.next();
    }
  }

  /** Sends nothing further. */
  close(): void {
    this.#state = "closed";
    this.#changed.notify();
    this.#idle.notify();
  }

  #isClosed(): boolean {
    return this.#state === "closed";
  }

  async #run(): Promise<void> {
    while (!this.#isClosed()) {
      const carrier = this.#carrier, isHome = carrier === this.#home;
      const most = isHome ? HOME_STEP_BYTES : BLOCK_BYTES;
      const pieces = carrier ? this.#composer.next(carrier, most) : [];
      if (!carrier || pieces.length === 0) {
        await this.#rest();
        continue;
      }
      try {
        await carrier.send(...pieces);
        this.#composer.endWrite();
        if (isHome && !this.#resting.aborted) {
          await delay(REST_MS, this.#resting).catch(() => {}); // the lane is made, or time is up
        }
      } catch (error) {
        this.#composer.abandonWrite();
        if (this.#isClosed()) return;
        if (this.#carrier === carrier) this.returnFrom(carrier);
        if (this.#carrier === carrier) this.#carrier = undefined; // its home cannot be written to
        this.#events.onError(carrier, error);
      }
    }
  }

  /** Waits until there may be something to send again. */
  async #rest(): Promise<void> {
    this.#state = "idle";
    this.#idle.notify();
    const changed = this.#changed.next();
    this.#events.onIdle();
    await changed;
    if (!this.#isClosed()) this.#state = "sending";
  }
}
