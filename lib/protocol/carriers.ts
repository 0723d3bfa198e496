/**
 * The carriers of a session: which of them carries what is sent, what comes by each, and when a lane is
 * given up. The bytes themselves are kept by the two halves (send_half.ts, receive_half.ts).
 */

import { abortable, delay, RunningTimeout } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { StreamError } from "../streams/duplex.ts";
import type { Lane } from "../lane/lane.ts";
import { AckTimer } from "./ack_timer.ts";
import { AttachedCarrier } from "./carrier.ts";
import { CLOSE_REASONS, CloseCode } from "./close_codes.ts";
import { FrameComposer } from "./frame_composer.ts";
import { FrameError, type FrameHandler } from "./frames.ts";
import type { HomeCarrier } from "./home_carrier.ts";
import { Outbox } from "./outbox.ts";
import type { ReceiveHalf } from "./receive_half.ts";
import type { SendHalf } from "./send_half.ts";

/** Interval between two looks at whether a lane on which something was sent has said anything. */
const LOOK_MS = 1_000;
/** Timeout of a lane that says nothing, after the other end has answered at home. */
const STALL_MS = 2_000;
/** Timeout for what the peer has sent before it stopped reading. */
const LAST_WORDS_MS = 1_000;
/** Maximum by which a generation may be ahead of the newest one: each costs the peer a carrier. */
const MAX_GENERATIONS_AHEAD = 16;

/** What a set of carriers tells its session. */
export interface CarriersOptions {
  /** Called when something has come. */
  readonly onEvent: () => void;
  /** Called when the session cannot go on. */
  readonly onFailure: (error: StreamError) => void;
  /** Called when a lane is given up before the session is through. */
  readonly onLaneLost: (lane: Lane, reason: Error) => void;
  readonly ackDelayMs?: number | undefined;
  readonly lookMs?: number | undefined;
  readonly stallMs?: number | undefined;
}

/** Sends and receives the frames of a session. */
export class Carriers {
  #home: AttachedCarrier<HomeCarrier>;
  #lane: AttachedCarrier<Lane> | undefined;
  #composer: FrameComposer;
  #outbox: Outbox;
  /** Newest generation of what is received. */
  #generation = 0;
  #send: SendHalf;
  #receive: ReceiveHalf;
  #options: CarriersOptions;
  #ackTimer: AckTimer;
  #readingHome: Promise<void>;

  constructor(
    home: HomeCarrier,
    send: SendHalf,
    receive: ReceiveHalf,
    options: CarriersOptions,
  ) {
    this.#send = send;
    this.#receive = receive;
    this.#options = options;
    this.#home = new AttachedCarrier(home, (from) => this.#handlerOf(from));
    this.#composer = new FrameComposer(send, receive);
    this.#outbox = new Outbox(this.#composer, this.#home, {
      onIdle: () => options.onEvent(),
      onError: (carrier, error) => {
        if (carrier === this.#home) this.#onHomeUnwritable(error);
        else if (carrier === this.#lane) this.#loseLane(this.#lane, error);
      },
    });
    this.#ackTimer = new AckTimer(receive, () => this.#outbox.ackNow(), options.ackDelayMs);
    this.#readingHome = this.#readHome();
  }

  /** The lane in use. */
  get lane(): Lane | undefined {
    return this.#lane?.carrier;
  }

  /** Whether the home carrier has taken all that was written, and the end. */
  get isSentHome(): boolean {
    return this.#composer.hasSentAllOn(this.#home);
  }

  /** Sends what there is to send. */
  wake(): void {
    if (this.#receive.owesAckNow) this.#outbox.ackNow();
    else if (this.#receive.owesAck) this.#ackTimer.set();
    this.#outbox.wake();
  }

  /** Leaves the processor to the making of a lane, until `made` settles, which never rejects. */
  restUntil(made: Promise<void>): void {
    this.#outbox.restUntil(made);
  }

  /** Goes on by a lane, in place of the one before. */
  attachLane(carrier: Lane): void {
    if (this.#home.dropped.aborted) return carrier.close(); // the session is over
    if (this.#lane) this.#dropLane(this.#lane, new Error("there is another lane"));
    const lane: AttachedCarrier<Lane> = new AttachedCarrier(
      carrier,
      (from) => this.#handlerOf(from),
    );
    this.#lane = lane;
    this.#outbox.switchTo(lane);
    this.#readLane(lane);
    this.#watchLane(lane).catch((error) => debug(() => `lane: no longer watched: ${error}`));
  }

  async #readHome(): Promise<void> {
    try {
      await this.#home.readAll();
      // The peer says by it that it is through, or that it gives up.
      if (!this.isThrough) throw new StreamError("reset", "the peer gave up the stream");
    } catch (error) {
      this.#onHomeError(error);
    }
  }

  async #readLane(lane: AttachedCarrier<Lane>): Promise<void> {
    try {
      await lane.readAll();
      this.#loseLane(lane, new Error("the peer has ended it"));
    } catch (error) {
      if (error instanceof FrameError) this.#onFrameError(error);
      else this.#loseLane(lane, error);
    }
  }

  /** Whether nothing is missing at either end: both have all, or read no further. */
  get isThrough(): boolean {
    return this.#receive.state !== "open" &&
      (this.#send.state === "done" || this.#send.isStopped);
  }

  /** The peer reads no further. What it has sent before says whether that is in order. */
  async #onHomeUnwritable(error: unknown): Promise<void> {
    const limit = AbortSignal.any([this.#home.dropped, AbortSignal.timeout(LAST_WORDS_MS)]);
    await abortable(this.#readingHome, limit).catch(() => {}); // it says nothing
    this.#onHomeError(error);
  }

  #onHomeError(error: unknown): void {
    if (this.#home.dropped.aborted) return;
    if (error instanceof FrameError) return this.#onFrameError(error);
    if (this.isThrough) return; // the peer needs nothing more
    this.#options.onFailure(
      error instanceof StreamError
        ? withMeaning(error)
        : new StreamError("lost", String(error), { cause: error }),
    );
  }

  #onFrameError(error: FrameError): void {
    debug(() => `session: against the protocol: ${error.message}`);
    const code = CloseCode.BAD_HELLO;
    const reason = new StreamError("refused", `against the protocol: ${error.message}`, { code });
    this.#options.onFailure(reason);
    this.abort(reason);
  }

  /** Something went wrong with a lane: what it carried goes on at home. */
  #loseLane(lane: AttachedCarrier<Lane>, error: unknown): void {
    if (lane.dropped.aborted) return;
    const reason = error instanceof Error ? error : new Error(String(error));
    this.#dropLane(lane, reason);
    // The peer closes its lane also at the end of a session, or if it aborts the session. The session goes on
    // if something comes at home.
    if (this.#receive.hasEnded) return;
    this.#home.heard().then(() => this.#options.onLaneLost(lane.carrier, reason));
  }

  #dropLane(lane: AttachedCarrier<Lane>, reason: Error): void {
    debug(() => `lane: given up: ${reason.message}`);
    if (this.#lane === lane) this.#lane = undefined;
    lane.drop(reason);
    this.#outbox.returnFrom(lane);
  }

  #handlerOf(from: AttachedCarrier): FrameHandler {
    const isCurrent = () => {
      if (from.generation === 0) throw new FrameError("a frame before the first start");
      return from.generation === this.#generation;
    };
    return {
      start: (generation) => this.#onStart(from, generation),
      data: (offset, data) => {
        if (!isCurrent()) return;
        this.#receive.onData(offset, data);
        this.#onReceived();
      },
      end: (total) => {
        if (!isCurrent()) return;
        this.#receive.onEnd(total);
        this.#onReceived();
      },
      ack: (received, limit) => {
        if (!isCurrent()) return;
        this.#send.onAck(received, limit);
        this.#options.onEvent();
        this.#outbox.wake();
      },
      stop: () => {
        if (!isCurrent()) return;
        this.#send.onStop();
        this.#options.onEvent();
        this.#outbox.wake();
      },
      probe: (id) => from.echo(id),
      echo: (id) => from.onEcho(id),
    };
  }

  #onStart(from: AttachedCarrier, generation: number): void {
    const isRepeated = generation <= from.generation || generation === this.#generation;
    if (isRepeated || generation > this.#generation + MAX_GENERATIONS_AHEAD) {
      throw new FrameError(`generation ${generation} after ${this.#generation}`);
    }
    from.generation = generation;
    if (generation <= this.#generation) return; // it has changed again meanwhile
    const isReturn = from === this.#home && this.#generation > 0;
    this.#generation = generation;
    this.#receive.restart();
    if (isReturn && this.#lane) this.#loseLane(this.#lane, new Error("the peer has given it up"));
  }

  #onReceived(): void {
    this.#options.onEvent();
    this.wake();
  }

  /** Tells the peer that this end reads no further. */
  stopReading(): void {
    this.#outbox.stopNow();
  }

  /**
   * Gives a lane up if it is silent while something is under way on it, and the other end answers at
   * home: if it answers nowhere, it is its process that stands still.
   */
  async #watchLane(lane: AttachedCarrier<Lane>): Promise<void> {
    const { lookMs = LOOK_MS, stallMs = STALL_MS } = this.#options;
    while (!lane.dropped.aborted) {
      const before = lane.piecesReceived;
      await delay(lookMs, lane.dropped).catch(() => {}); // dropped
      // Not only data may be lost: the peer may wait for an acknowledgement.
      const isAwaited = this.#send.isInFlight || lane.isUnanswered;
      if (!isAwaited || lane.piecesReceived !== before) continue;
      lane.probe().catch(() => {}); // the lane is dropped
      const isAnswered = this.#home.probe().catch(() => {}); // the session ends
      await abortable(Promise.race([isAnswered, lane.heard()]), lane.dropped).catch(() => {});
      if (lane.dropped.aborted || lane.piecesReceived !== before) continue;
      using limit = new RunningTimeout(stallMs, new Error("it is silent"), lane.dropped);
      await abortable(lane.heard(), limit.signal).catch((error) => this.#loseLane(lane, error));
    }
  }

  /** Gives up the lane, if there is one. */
  closeLane(reason: Error): void {
    if (this.#lane) this.#dropLane(this.#lane, reason);
  }

  /**
   * Closes the lane, sends what is left at home, and ends that stream. Never rejects.
   *
   * @returns When all has been handed over; the end of the stream may still have to arrive.
   */
  async finish(): Promise<void> {
    this.#ackTimer.clear();
    if (this.#lane) this.#dropLane(this.#lane, new Error("the session is through"));
    if (this.#receive.owesAck) this.#outbox.ackNow();
    await this.#outbox.flush();
    this.#outbox.close();
    this.#home.carrier.finish();
  }

  /** Tells the peer that the session ends in the middle. Never rejects. */
  async abort(reason: unknown): Promise<void> {
    await this.#home.carrier.abort(reason);
  }

  /** Closes all carriers. */
  close(): void {
    this.#ackTimer.clear();
    const reason = new Error("the session is over");
    this.#outbox.close();
    this.closeLane(reason);
    this.#home.drop(reason);
  }
}

/** Puts words to the code, if it is one that this program sends. */
function withMeaning(error: StreamError): StreamError {
  const meaning = error.code === undefined ? undefined : CLOSE_REASONS.get(error.code);
  if (meaning === undefined) return error;
  const { kind, code } = error;
  return new StreamError(kind, `${meaning} (code ${code})`, { code, cause: error });
}
