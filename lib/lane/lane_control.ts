/**
 * A lane in use, and the lane stream beside it, on which each end says how far it has got: so that the
 * end of a direction is known to have come, and a lane that carries nothing any more is noticed.
 */

import { StreamError } from "../streams/duplex.ts";
import { debug } from "../console/stderr.ts";
import { type Lane, LaneError } from "./lane.ts";
import type { Progress, SignalingStream } from "./signaling.ts";

/** How often each end says how far it has got. */
export const PROGRESS_MS = 5_000;
/** So many times in a row nothing has come of what was sent: the lane is lost. */
const MOST_STALLED = 4;

/** A session that can go on by a lane. */
export interface MigratableSession {
  /** Bytes whose sending has begun, and one more for the end. */
  readonly bytesQueued: number;
  readonly progress: Progress;
  throttleUntil(established: Promise<void>): void;
  migrateTo(target: LaneControl): Promise<void>;
  peerStopped(): void;
  fail(error: StreamError): void;
}

/** Ties a session to its lane. Dispose of it when the session is over. */
export class LaneControl implements Disposable {
  readonly lane: Lane;
  /** What the other end said last, what had been begun by then, and how often it was the same. */
  received = -1;
  #bytesQueued = 0;
  #stalled = 0;
  #stream: SignalingStream;
  #session: MigratableSession;
  #acknowledged = Promise.withResolvers<void>();
  #timer: ReturnType<typeof setInterval>;
  #peerGone: ReturnType<typeof setTimeout> | undefined;
  #disposed = false;

  /** @param progressMs How often to say how far it is. */
  constructor(
    lane: Lane,
    stream: SignalingStream,
    session: MigratableSession,
    progressMs = PROGRESS_MS,
  ) {
    this.lane = lane;
    this.#stream = stream;
    this.#session = session;
    this.#timer = setInterval(() => this.#sendProgress(), progressMs);
    this.#listen().catch((error) => {
      debug(() => `lane: ${error}`);
      if (error instanceof LaneError) this.#fail(error.message);
    }).finally(() => {
      // It ends with the session, of whose end this side may hear a moment later; otherwise the other
      // end has no lane.
      if (this.#disposed) return;
      this.#peerGone = setTimeout(() => this.#fail("the peer has given up the lane"), progressMs);
    });
  }

  /** Resolves when the other end has all that was sent. */
  get acknowledged(): Promise<void> {
    return this.#acknowledged.promise;
  }

  acknowledgeEnd(): void {
    this.#sendProgress();
  }

  stop(): void {
    this.#send({ kind: "stop" });
  }

  #sendProgress(): void {
    this.#send({ kind: "progress", progress: this.#session.progress });
  }

  #send(message: Parameters<SignalingStream["send"]>[0]): void {
    this.#stream.send(message).catch((error) => debug(() => `lane: not told: ${error}`)); // as above
  }

  async #listen(): Promise<void> {
    for (let message; (message = await this.#stream.receive());) {
      if (message.kind === "progress") this.#onProgress(message.progress);
      else if (message.kind === "stop") this.#session.peerStopped();
      else throw new LaneError(`${message.kind} after the choice`);
    }
  }

  #onProgress({ received, state }: Progress): void {
    if (state === "ended") this.#acknowledged.resolve();
    const waits = state === "passed on" && received === this.received &&
      received < this.#bytesQueued;
    this.#stalled = waits ? this.#stalled + 1 : 0;
    this.received = state === "ended" ? received + 1 : received;
    this.#bytesQueued = this.#session.bytesQueued;
    if (this.#stalled >= MOST_STALLED) this.#fail("the direct connection carries nothing any more");
  }

  #fail(reason: string): void {
    this.#session.fail(new StreamError("lost", reason));
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    clearInterval(this.#timer);
    clearTimeout(this.#peerGone);
    this.#stream.close();
    this.lane.close();
  }
}
