/**
 * A session: a reliable two-way byte stream whose carriers come and go. It begins on a stream of iroh's
 * connection, its home. It may go on by a lane, and returns home if the lane fails. docs/protocol.md
 */

import { Notifier } from "../async/notifier.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { Lane } from "../lane/lane.ts";
import { Carriers } from "./carriers.ts";
import { HomeCarrier } from "./home_carrier.ts";
import { ReceiveHalf } from "./receive_half.ts";
import { SendHalf } from "./send_half.ts";

/** How a session tells its owner, and time limits. */
export interface SessionOptions {
  /** Called each time bytes have been taken from the owner, or given to it. */
  readonly onProgress?: () => void;
  /** Called when a lane is given up before the session is through. */
  readonly onLaneLost?: (lane: Lane, reason: Error) => void;
  /** Maximum time for which an acknowledgement waits for data to ride along with. */
  readonly ackDelayMs?: number;
  /** Interval between two looks at whether a lane says anything. */
  readonly lookMs?: number;
  /** Timeout of a lane that says nothing while the other end answers at home. */
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
  #failure: StreamError | undefined;
  #onProgress: () => void;
  #failWriting: (error: StreamError) => void = () => {};
  /** Whether a proxy delivers what was sent at home, also after this process has ended. */
  #isProxied = false;

  /**
   * @param stream The stream of iroh's connection, after its header.
   * @param connectionClosed Resolves when iroh's connection has ended, with the error that reads and writes give.
   */
  constructor(
    stream: Duplex,
    connectionClosed: Promise<StreamError>,
    { onProgress = () => {}, onLaneLost = () => {}, ackDelayMs, lookMs, stallMs }: SessionOptions =
      {},
  ) {
    this.#onProgress = onProgress;
    this.#carriers = new Carriers(new HomeCarrier(stream), this.#send, this.#receive, {
      onEvent: () => this.#onEvent(),
      onFailure: (error) => this.fail(error),
      onLaneLost,
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
    connectionClosed.then((error) => this.#onConnectionClosed(error));
  }

  /** Bytes taken from the owner so far, however often they were sent. */
  get sent(): number {
    return this.#send.written;
  }

  /** Bytes received so far, however often they came. */
  get received(): number {
    return this.#receive.received;
  }

  /** Whether the other end has yet to acknowledge something. */
  get isInFlight(): boolean {
    return this.#send.isInFlight;
  }

  /** The lane in use. */
  get lane(): Lane | undefined {
    return this.#carriers.lane;
  }

  release(chunk: Uint8Array<ArrayBuffer>): void {
    this.#receive.release(chunk);
  }

  /** Lets the credit of the other end grow: it is no stranger. */
  markAuthenticated(): void {
    this.#receive.window.mayGrow = true;
  }

  /** Says that a proxy delivers what is sent at home, also after this process has ended. */
  deliveredByProxy(): void {
    this.#isProxied = true;
  }

  /** Leaves the processor to the making of a lane, until `made` settles, which never rejects. */
  throttleUntil(made: Promise<void>): void {
    this.#carriers.restUntil(made);
  }

  /** Goes on by a lane, in place of the one before. From now on the session closes it. */
  attachLane(lane: Lane): void {
    if (this.#failure || this.#carriers.isThrough) lane.close();
    else this.#carriers.attachLane(lane);
  }

  /** Whether all that was sent gets there without this process, and nothing more is to come. */
  get #isDelivered(): boolean {
    return this.#isProxied && this.#receive.hasEnded && this.#carriers.isSentHome;
  }

  /** Closes what the session uses: in order if it is through, or else at once. Never rejects. */
  async detach(): Promise<void> {
    const isInOrder = !this.#failure && (this.#carriers.isThrough || this.#isDelivered);
    if (isInOrder) await this.#carriers.finish();
    this.#carriers.close();
    this.#send.discard();
    this.#receive.discard();
  }

  /**
   * Ends the session in the middle. Never rejects.
   *
   * @param error The reason, of which the other end is told the code.
   * @returns When that has been said, as far as it can be.
   */
  async abort(error: StreamError): Promise<void> {
    this.fail(error);
    await this.#carriers.abort(error);
  }

  /** Ends the session at this end: reads and writes fail with the error. */
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
    // With code 0 the peer says that it needs no more: in order where both ends have been sent.
    const isInOrder = error.kind === "closed" && this.#receive.state !== "open" &&
      this.#send.state !== "open" && this.#send.isSent;
    if (isInOrder) this.#send.onStop();
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
    this.#failWriting = () => {}; // from now on it is this promise that tells the writer
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
    this.#carriers.wake(); // the other end may be granted more
    if (piece) {
      controller.enqueue(piece);
      this.#onProgress();
    } else if (this.#receive.state === "ended") controller.close();
  }

  #cancel(): void {
    const mustTell = this.#receive.stop();
    this.#changed.notify(); // a read may wait
    if (mustTell) this.#carriers.stopReading();
  }

  /** Waits until something is so. @throws The failure of the session, if that comes first. */
  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#failure) throw this.#failure;
      await this.#changed.next();
    }
  }
}

/** However orderly the connection has ended: what was to come is missing. */
function beforeTheEnd(error: StreamError): StreamError {
  if (error.kind !== "closed") return error;
  return new StreamError("lost", `${error.message} before the end`, { cause: error });
}

/** What a writer is told whose reader wants no more. */
function stopped(): StreamError {
  return new StreamError("reset", "the peer gave up the stream");
}
