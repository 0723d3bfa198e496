/**
 * A session: a reliable two-way byte stream whose carriers come and go (docs/protocol.md). It begins on a stream of
 * iroh's connection, its home. It may go on by a lane, and returns home if the lane fails.
 */

import { Notifier } from "../async/notifier.ts";
import { onResolved } from "../async/on_resolved.ts";
import { type Duplex, giveUp, StreamError } from "../streams/duplex.ts";
import type { Lane } from "../lane/lane.ts";
import { Carriers, isLoss } from "./carriers.ts";
import { HomeCarrier } from "./home_carrier.ts";
import { ReceiveHalf } from "./receive_half.ts";
import { SendHalf } from "./send_half.ts";

/** What a session tells its owner, and its time limits. */
export interface SessionOptions {
  /** Called each time the session has taken a chunk from its owner, or has given it one. */
  readonly onProgress?: () => void;
  /** Called when a lane is given up before the session is through. */
  readonly onLaneLost?: (lane: Lane, reason: Error) => void;
  /**
   * Called when iroh's connection is lost. The owner then calls {@linkcode Session.attachHome} or
   * {@linkcode Session.fail}. Without it, the session fails at once.
   */
  readonly onHomeLost?: (error: StreamError) => void;
  /** Maximum time for which an acknowledgement waits for data to ride along with. */
  readonly ackDelayMs?: number;
  /** Interval between two looks at whether anything has come by a lane. */
  readonly lookMs?: number;
  /** Timeout for a lane to be heard after the peer has answered at home. */
  readonly stallMs?: number;
}

/** A session. Its owner calls {@linkcode Session.detach} when it is over. */
export class Session implements Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
  #send = new SendHalf();
  #receive = new ReceiveHalf();
  #carriers: Carriers;
  #changed = new Notifier();
  /** Waits for the end of iroh's connection, which may live for days. */
  #watching: Disposable | undefined;
  #failure: StreamError | undefined;
  #onProgress: () => void;
  #failWriting: (error: StreamError) => void = () => {};
  /** Whether a proxy delivers what was sent at home, even after this process has exited. */
  #isProxied = false;

  /**
   * @param stream The stream of iroh's connection, after its header.
   * @param connectionClosed Resolves when iroh's connection has ended, to the error of later reads and writes.
   */
  constructor(
    stream: Duplex,
    connectionClosed: Promise<StreamError>,
    { onProgress = () => {}, onLaneLost = () => {}, onHomeLost, ackDelayMs, lookMs, stallMs }:
      SessionOptions = {},
  ) {
    this.#onProgress = onProgress;
    this.#carriers = new Carriers(new HomeCarrier(stream), this.#send, this.#receive, {
      onEvent: () => this.#onEvent(),
      onFailure: (error) => this.fail(beforeTheEnd(error)),
      onLaneLost,
      onHomeLost,
      ackDelayMs,
      lookMs,
      stallMs,
    });
    this.readable = new ReadableStream({
      pull: (controller) => this.#pull(controller),
      cancel: () => this.#cancel(),
    }, { highWaterMark: 0 });
    this.writable = new WritableStream({
      start: (controller) => {
        this.#failWriting = (error) => controller.error(error);
      },
      write: (chunk) => this.#write(chunk),
      close: () => this.#end(),
      abort: (reason) => this.#abortWriting(reason),
    });
    this.#watch(connectionClosed);
  }

  /**
   * Goes on on a stream of another connection, in place of the one that was lost. If the session has ended in order,
   * it sends there once more what it sent last.
   */
  attachHome(stream: Duplex, connectionClosed: Promise<StreamError>): void {
    if (this.#failure) return giveUp(stream);
    this.#carriers.attachHome(new HomeCarrier(stream));
    if (this.#carriers.isOpen) this.#watch(connectionClosed);
  }

  #watch(connectionClosed: Promise<StreamError>): void {
    this.#watching?.[Symbol.dispose]();
    this.#watching = onResolved(connectionClosed, (error) => this.#onConnectionClosed(error));
  }

  /** Number of bytes taken from the owner so far. Bytes that are sent again count once. */
  get sent(): number {
    return this.#send.written;
  }

  /** Number of bytes received so far. Bytes that come again count once. */
  get received(): number {
    return this.#receive.received;
  }

  /** Whether the peer has yet to acknowledge something. */
  get isInFlight(): boolean {
    return this.#send.isInFlight;
  }

  /** The lane in use; undefined if there is none. */
  get lane(): Lane | undefined {
    return this.#carriers.lane;
  }

  release(chunk: Uint8Array<ArrayBuffer>): void {
    this.#receive.release(chunk);
  }

  /** Lets the peer's credit grow, since the peer is no stranger. */
  markAuthenticated(): void {
    this.#receive.window.mayGrow = true;
  }

  /** Notes that a proxy delivers what is sent at home, even after this process has exited. */
  deliveredByProxy(): void {
    this.#isProxied = true;
  }

  /** Slows down at home until `made` settles, which never rejects: the making of a lane needs the processor. */
  restUntil(made: Promise<void>): void {
    this.#carriers.restUntil(made);
  }

  /** Goes on by a lane, which replaces the one before. The session closes the lane when it is no longer used. */
  attachLane(lane: Lane): void {
    if (this.#failure || this.#carriers.isThrough) lane.close();
    else this.#carriers.attachLane(lane);
  }

  /** Whether everything gets to the peer without this process, and nothing is still to come from the peer. */
  get #isDelivered(): boolean {
    return this.#isProxied && this.#receive.hasEnded && this.#carriers.isSentHome;
  }

  /**
   * Resolves when the peer's machine has what this end sent last, once the session has ended in order. Until then,
   * the peer may have to resume it in order to end in order, too: see {@linkcode attachHome}.
   *
   * @throws {StreamError} if the connection is lost before that.
   */
  get farewell(): Promise<void> {
    return this.#carriers.farewell;
  }

  /** Closes the carriers: in order if the session is through, or else at once. Never rejects. */
  async detach(): Promise<void> {
    const isInOrder = !this.#failure && (this.#carriers.isThrough || this.#isDelivered);
    if (isInOrder) await this.#carriers.finish();
    this.#watching?.[Symbol.dispose]();
    this.#carriers.close();
    this.#send.discard();
    this.#receive.discard();
  }

  /**
   * Ends the session at both ends, before it is through. Never rejects.
   *
   * @param error The reason. The peer is told its code.
   * @returns When the peer has been told, as far as possible.
   */
  async abort(error: StreamError): Promise<void> {
    this.fail(error);
    await this.#carriers.abort(error);
  }

  /** Ends the session at this end. Reads and writes fail with the error. */
  fail(error: StreamError): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#failWriting(error);
    this.#carriers.closeLane(error);
    this.#changed.notify();
  }

  #onEvent(): void {
    if (this.#send.isStopped) this.#failWriting(stopped());
    this.#changed.notify();
  }

  #onConnectionClosed(error: StreamError): void {
    if (this.#failure) return;
    // With code 0 the peer says that it is through. Its last acknowledgement may have been lost with the
    // connection, so it is enough that both ends have been sent.
    const isInOrder = error.kind === "closed" && this.#receive.state !== "open" &&
      this.#send.state !== "open" && this.#send.isSent;
    if (isInOrder) this.#send.onStop();
    if (isLoss(error)) return this.#carriers.loseHome(error);
    this.fail(isInOrder ? error : beforeTheEnd(error));
  }

  async #write(chunk: Uint8Array): Promise<void> {
    for (let rest = chunk; rest.length > 0;) {
      await this.#until(() => this.#send.room > 0 || this.#send.isStopped);
      if (this.#send.isStopped) throw stopped();
      const part = rest.subarray(0, this.#send.room);
      this.#send.write(part);
      this.#carriers.wake();
      rest = rest.subarray(part.length);
    }
    this.#onProgress();
  }

  async #end(): Promise<void> {
    this.#send.end();
    this.#carriers.wake();
    const isThrough = () =>
      this.#send.state === "done" || this.#send.isStopped || this.#isDelivered;
    await this.#until(isThrough);
  }

  async #abortWriting(reason: unknown): Promise<void> {
    const given = reason instanceof StreamError ? reason : undefined;
    const error = given ?? new StreamError("reset", "it was given up", { cause: reason });
    await this.abort(error);
  }

  async #pull(controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>): Promise<void> {
    let piece: Uint8Array<ArrayBuffer> | undefined;
    await this.#until(() => {
      piece = this.#receive.take();
      return piece !== undefined || this.#receive.state !== "open";
    });
    this.#carriers.wake(); // there may be more credit to grant
    if (piece) {
      controller.enqueue(piece);
      this.#onProgress();
    } else if (this.#receive.state === "ended") controller.close();
  }

  #cancel(): void {
    const mustTell = this.#receive.stop();
    this.#changed.notify(); // for a pending read
    if (mustTell) this.#carriers.stopReading();
  }

  /** Waits until a condition holds. @throws The failure of the session, if that comes first. */
  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#failure) throw this.#failure;
      await this.#changed.next();
    }
  }
}

/** Returns the error for a connection that was closed in order before the session was through. */
function beforeTheEnd(error: StreamError): StreamError {
  if (error.kind !== "closed") return error;
  return new StreamError("lost", `${error.message} before the end`, { cause: error });
}

/** Returns the error for a writer whose reader reads no further. */
function stopped(): StreamError {
  return new StreamError("reset", "the peer gave up the stream");
}
