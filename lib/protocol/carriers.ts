/**
 * The carriers of a session: what comes by each of them, which one is used, and when a lane is given up. The two
 * halves (send_half.ts, receive_half.ts) keep the bytes.
 */

import { abortable } from "../async/abort.ts";
import { Notifier } from "../async/notifier.ts";
import { debug } from "../console/stderr.ts";
import { StreamError } from "../streams/duplex.ts";
import type { Lane } from "../lane/lane.ts";
import { AckTimer } from "./ack_timer.ts";
import { AttachedCarrier } from "./carrier.ts";
import { CLOSE_REASONS, CloseCode } from "./close_codes.ts";
import { FrameComposer } from "./frame_composer.ts";
import { FrameError, type FrameHandler } from "./frames.ts";
import type { HomeCarrier } from "./home_carrier.ts";
import { laneFault } from "./lane_watch.ts";
import { Outbox } from "./outbox.ts";
import type { ReceiveHalf } from "./receive_half.ts";
import type { SendHalf } from "./send_half.ts";

/** Timeout for the last frames of a peer that reads no further: several round trips of a slow network. */
const LAST_FRAMES_MS = 1_000;
/** Maximum by which a generation may be ahead of the newest one. For each the peer needs another carrier. */
const MAX_GENERATIONS_AHEAD = 16;

/** What a set of carriers tells its session. */
export interface CarriersOptions {
  /** Called when a frame has come, or everything has been sent. */
  readonly onEvent: () => void;
  /** Called when the session cannot go on. */
  readonly onFailure: (error: StreamError) => void;
  /** Called when iroh's connection is lost, and the session waits for another home. */
  readonly onHomeLost: ((error: StreamError) => void) | undefined;
  /** Called when a lane is given up before the session is through. */
  readonly onLaneLost: (lane: Lane, reason: Error) => void;
  /** These limits are smaller in tests. */
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
  /** Newest generation that the peer has begun on any carrier. */
  #generation = 0;
  #send: SendHalf;
  #receive: ReceiveHalf;
  #options: CarriersOptions;
  #ackTimer: AckTimer;
  #readingHome: Promise<void>;
  #homeChanged = new Notifier();
  #state: "open" | "finished" | "closed" = "open";
  #farewell: Promise<void> = Promise.resolve();

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
        if (carrier === this.#home) this.#onHomeUnwritable(this.#home, error);
        else if (carrier === this.#lane) this.#loseLane(this.#lane, error);
      },
    });
    this.#ackTimer = new AckTimer(receive, () => this.#outbox.ackNow(), options.ackDelayMs);
    this.#readingHome = this.#readHome(this.#home);
  }

  /** Whether another home may be attached, to go on there. */
  get isOpen(): boolean {
    return this.#state === "open";
  }

  /** Replaces the home stream, whose connection was lost. After {@linkcode finish}, the farewell is sent there. */
  attachHome(carrier: HomeCarrier): void {
    if (this.#state === "finished" && this.isThrough) return this.#repeatFarewell(carrier);
    if (this.#state !== "open") return carrier.close();
    const before = this.#home;
    this.#home = new AttachedCarrier(carrier, (from) => this.#handlerOf(from));
    before.drop(lost("there is another home"));
    this.#outbox.setHome(this.#home);
    this.#homeChanged.notify();
    this.#readingHome = this.#readHome(this.#home);
  }

  /** Waits for another home, if it can be had. */
  loseHome(error: StreamError): void {
    const { onHomeLost, onFailure } = this.#options;
    if (!onHomeLost) return onFailure(error);
    if (this.#home.dropped.aborted) return;
    this.#home.drop(lost(error.message));
    this.#outbox.returnFrom(this.#home);
    onHomeLost(error);
  }

  /** The lane in use; undefined if there is none. */
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

  /** Slows down at home until `made` settles, which never rejects: the making of a lane needs the processor. */
  restUntil(made: Promise<void>): void {
    this.#outbox.restUntil(made);
  }

  /** Goes on by a lane, which replaces the one before, and closes it when it is no longer used. */
  attachLane(carrier: Lane): void {
    if (this.#state !== "open") return carrier.close(); // the session is over
    if (this.#lane) this.#dropLane(this.#lane, new Error("there is another lane"));
    const lane: AttachedCarrier<Lane> = new AttachedCarrier(
      carrier,
      (from) => this.#handlerOf(from),
    );
    this.#lane = lane;
    this.#outbox.switchTo(lane);
    this.#readLane(lane);
    this.#watchLane(lane);
  }

  /** Never rejects. */
  async #watchLane(lane: AttachedCarrier<Lane>): Promise<void> {
    const { lookMs, stallMs } = this.#options;
    const home = () => this.#home, isInFlight = () => this.#send.isInFlight;
    const fault = await laneFault({ lane, home, isInFlight }, { lookMs, stallMs });
    if (fault) this.#loseLane(lane, new Error(fault));
  }

  async #readHome(home: AttachedCarrier<HomeCarrier>): Promise<void> {
    try {
      await home.readAll();
      if (home.dropped.aborted) return;
      // With the end of its stream, the peer says that it is through. If it is not, it has given up.
      if (!this.isThrough) throw new StreamError("reset", "the peer gave up the stream");
    } catch (error) {
      this.#onHomeError(home, error);
    }
  }

  async #readLane(lane: AttachedCarrier<Lane>): Promise<void> {
    try {
      await lane.readAll();
      this.#loseLane(lane, new Error("the peer has closed it"));
    } catch (error) {
      if (error instanceof FrameError) this.#onFrameError(error);
      else this.#loseLane(lane, error);
    }
  }

  /** Whether nothing is missing at either end: each has received everything, or reads no further. */
  get isThrough(): boolean {
    return this.#receive.state !== "open" &&
      (this.#send.state === "done" || this.#send.isStopped);
  }

  /** Ends the session, unless the peer's last frames say that it is through. They may not have been read yet. */
  async #onHomeUnwritable(home: AttachedCarrier<HomeCarrier>, error: unknown): Promise<void> {
    const limit = AbortSignal.any([home.dropped, AbortSignal.timeout(LAST_FRAMES_MS)]);
    await abortable(this.#readingHome, limit).catch(() => {}); // nothing further comes
    this.#onHomeError(home, error);
  }

  #onHomeError(home: AttachedCarrier<HomeCarrier>, error: unknown): void {
    if (home.dropped.aborted) return;
    if (error instanceof FrameError) return this.#onFrameError(error);
    if (this.isThrough) return; // the peer may close its stream now
    if (isLoss(error)) return this.loseHome(error);
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

  /** Drops a lane with which something is wrong. The session goes on at home. */
  #loseLane(lane: AttachedCarrier<Lane>, error: unknown): void {
    if (lane.dropped.aborted) return;
    const reason = error instanceof Error ? error : new Error(String(error));
    this.#dropLane(lane, reason);
    // The peer closes the lane also if the session is through or aborted. If something comes at home, the
    // session goes on, so the lane is to blame.
    if (this.#receive.hasEnded && this.#send.state !== "open") return;
    this.#heardAtHome().then(() => this.#options.onLaneLost(lane.carrier, reason));
  }

  /** Resolves when something has come at home, which may be another one by then. */
  async #heardAtHome(): Promise<void> {
    for (;;) {
      const home = this.#home;
      const isHeard = await abortable(home.heard(), home.dropped).then(() => true, () => false);
      if (isHeard) return;
      if (home === this.#home) await this.#homeChanged.next();
    }
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
    if (generation <= this.#generation) return; // the peer has changed the carrier again
    const isReturn = from === this.#home && this.#generation > 0;
    // A peer that has begun nothing on the lane has sent this before it had the lane, and lost only the one before.
    const isLate = this.#lane?.generation === 0 && generation === this.#generation + 1;
    this.#generation = generation;
    this.#receive.restart();
    if (isReturn && !isLate && this.#lane) {
      this.#loseLane(this.#lane, new Error("the peer has given it up"));
    }
  }

  #onReceived(): void {
    this.#options.onEvent();
    this.wake();
  }

  /** Tells the peer that this end reads no further. */
  stopReading(): void {
    this.#outbox.stopNow();
  }

  /** Gives up the lane, if there is one. */
  closeLane(reason: Error): void {
    if (this.#lane) this.#dropLane(this.#lane, reason);
  }

  /**
   * Closes the lane, sends at home what is left, and ends the home stream. Never rejects.
   *
   * @returns When the home carrier has taken everything. The end of the stream may still have to arrive.
   */
  async finish(): Promise<void> {
    this.#ackTimer.clear();
    if (this.#lane) this.#dropLane(this.#lane, new Error("the session is through"));
    if (this.#receive.owesAck) this.#outbox.ackNow();
    await this.#outbox.flush();
    this.#outbox.close();
    this.#state = "finished";
    const { dropped, carrier } = this.#home;
    this.#setFarewell(dropped.aborted ? Promise.reject(dropped.reason) : carrier.finish());
  }

  /** Settles like {@linkcode Session.farewell}. */
  get farewell(): Promise<void> {
    return this.#farewell;
  }

  #setFarewell(farewell: Promise<void>): void {
    this.#farewell = farewell;
    farewell.catch(() => {}); // the owner may not wait for it
  }

  /** Sends again what says that the session is through, which may have been lost with the home before. */
  #repeatFarewell(carrier: HomeCarrier): void {
    const home = new AttachedCarrier(carrier, (from) => this.#handlerOf(from));
    this.#composer.requestStart();
    const sent = home.send(...this.#composer.next(home, 0));
    this.#setFarewell(
      sent.then(() => carrier.finish()).finally(() => {
        this.#composer.endWrite();
        home.drop(new Error("the session is over"));
      }),
    );
  }

  /** Resets the home stream. Never rejects. @param reason Its code tells the peer why. */
  async abort(reason: unknown): Promise<void> {
    await this.#home.carrier.abort(reason);
  }

  /** Closes all carriers. */
  close(): void {
    if (this.#state === "open") this.#state = "closed";
    this.#ackTimer.clear();
    const reason = new Error("the session is over");
    this.#outbox.close();
    this.closeLane(reason);
    this.#home.drop(reason);
  }
}

/** Tells the other end, if it can still be told, that the session goes on on another connection. */
function lost(message: string): StreamError {
  return new StreamError("lost", message, { code: CloseCode.LOST });
}

/** Whether iroh's connection has ended in a way after which another one can take its place. */
export function isLoss(error: unknown): error is StreamError {
  if (!(error instanceof StreamError)) return false;
  const { kind, code } = error;
  return kind === "lost" || kind === "forgotten" || (kind === "refused" && code === CloseCode.LOST);
}

/** Returns the error with the meaning of its code, if this program knows the code. */
function withMeaning(error: StreamError): StreamError {
  const meaning = error.code === undefined ? undefined : CLOSE_REASONS.get(error.code);
  if (meaning === undefined) return error;
  const { kind, code } = error;
  return new StreamError(kind, `${meaning} (code ${code})`, { code, cause: error });
}
