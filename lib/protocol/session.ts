/**
 * A session of the mux protocol: git-annex's bytes, both ways, in frames. It begins on a stream of iroh's
 * connection, and may move to a lane in the middle, each direction on its own. docs/protocol.md
 */

import { abortable, delay, RunningTimeout } from "../async/abort.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { Lane } from "../lane/lane.ts";
import type { Progress } from "../lane/signaling.ts";
import {
  endFrame,
  FrameError,
  FrameReader,
  FrameWriter,
  migrateFrame,
  MOST_FRAME_BYTES,
} from "./frames.ts";
import { CLOSE_REASONS } from "./close_codes.ts";

/** From `move` to the lane being there on this side, too: longer than the words that widen it may take. */
const LANE_LIMIT_MS = 40_000;

/** For what ends the connection to be known here, when the lane ends with it. */
const REASON_LIMIT_MS = 1_000;

/** By iroh, so much at a time, which with its header is one call of iroh-js: it may move in between. */
const THROTTLED_WRITE_BYTES = 32 * 1024 - 4;
/**
 * Between two such steps while a lane is being made, but not for longer than that: iroh's way takes all
 * of a processor at either end, which making the lane needs, too.
 */
const THROTTLE_PAUSE_MS = 10, MOST_THROTTLED_MS = 600;

/** A lane, and what the two ends say to each other about it. */
export interface MigrationTarget {
  readonly lane: Pick<Lane, "read" | "release" | "discard" | "write" | "close">;
  /** Resolves when the other end has all of this direction. */
  readonly acknowledged: Promise<void>;
  /** Bytes that the other end says it has received, in the whole session, and one more for the end. */
  readonly received: number;
  /** Tells the other end that all its data has come. */
  acknowledgeEnd(): void;
  /** Tells the other end to send no more. */
  stop(): void;
}

/**
 * A session. Each end sends the end of iroh's stream when it has received all data, or takes no more,
 * and has sent all, or the other end takes no more: so either knows what has come.
 */
export class Session implements Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
  /** Bytes of data handed over so far. */
  sent = 0;
  /** The same with what is being handed over, and one more for the end. */
  bytesQueued = 0;
  #frames = new FrameReader();
  #frameWriter = new FrameWriter();
  #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  #writer: WritableStreamDefaultWriter<Uint8Array>;
  #target: MigrationTarget | undefined;
  #targetReady = Promise.withResolvers<MigrationTarget>();
  /** Whether each direction has moved. */
  #sendsByLane = false;
  #receivesByLane = false;
  #state: Progress["state"] = "under way";
  /** Whether anybody still reads. */
  #isWanted = true;
  #sendEnded = false;
  #receiveEnded = false;
  /** Whether the end of iroh's stream was sent, and came. */
  #finished = false;
  #peerFinished = false;
  /** Whether it could come: not any more when the stream was given up here. */
  #readsStream = true;
  #isEndWatched = false;
  /** Whether somebody who goes on when this process has ended sends what the stream is given. */
  #isDeliveredByProxy = false;
  /** Resolved when the other end has all, or needs no more. */
  #delivered = Promise.withResolvers<void>();
  /** Not aborted while a lane is being made. */
  #throttle = AbortSignal.abort();
  /** What is being sent, one after another. */
  #sending: Promise<unknown> = Promise.resolve();
  #failWriting: (error: StreamError) => void = () => {};
  /** Aborted when nothing can be sent any more: a write to a lane that is dead would wait for ever. */
  #sendStopped = new AbortController();
  #failure = Promise.withResolvers<never>();
  /** Resolved when the connection, or the other end's part in it, has ended in an orderly way. */
  #closedOrderly = Promise.withResolvers<StreamError>();
  #onProgress: () => void;

  /**
   * @param stream Iroh's, after the byte that says what it is for.
   * @param connectionClosed Resolves when iroh's connection has ended, with the error that reads and writes give.
   * @param onProgress Called each time data has been sent or received.
   */
  constructor(
    stream: Duplex,
    connectionClosed: Promise<StreamError>,
    onProgress: () => void = () => {},
  ) {
    this.#reader = stream.readable.getReader();
    this.#writer = stream.writable.getWriter();
    this.#writer.closed.catch(() => {}); // writes fail with the same
    this.#onProgress = onProgress;
    this.#failure.promise.catch(() => {}); // told to whoever reads or writes
    this.#targetReady.promise.catch(() => {});
    this.readable = new ReadableStream({
      pull: (controller) =>
        this.#pull(controller).catch((error) => {
          // Whatever it is: who gives up the one direction gives up the other.
          if (error instanceof StreamError) this.fail(error);
          throw error;
        }),
      cancel: (reason) => this.#cancelReading(reason),
    }, { highWaterMark: 0 });
    this.writable = new WritableStream({
      start: (controller) => {
        this.#failWriting = (error) => controller.error(error);
      },
      write: (chunk) => this.#write(chunk),
      close: () => this.#endWriting(),
      abort: (reason) => this.#abortWriting(reason),
    });
    connectionClosed.then((error) => this.#onConnectionClosed(error));
  }

  /** Bytes of data received so far. */
  get received(): number {
    return this.#frames.received;
  }

  release(chunk: Uint8Array<ArrayBuffer>): void {
    this.#target?.lane.release(chunk);
  }

  /** How far the data has got that comes by the lane. */
  get progress(): Progress {
    return { received: this.received, state: this.#isWanted ? this.#state : "under way" };
  }

  /** Whether something is on its way that the other end has not said it has. By the lane alone. */
  get isInFlight(): boolean {
    return this.#sendsByLane && this.#target!.received < this.bytesQueued;
  }

  /** A lane is being made, until `over` settles, which never rejects. */
  throttleUntil(established: Promise<void>): void {
    const throttle = new AbortController();
    this.#throttle = AbortSignal.any([throttle.signal, AbortSignal.timeout(MOST_THROTTLED_MS)]);
    established.then(() => throttle.abort());
  }

  /** Goes on by a lane: this direction as soon as what is under way has been sent. */
  async migrateTo(target: MigrationTarget): Promise<void> {
    this.#target = target;
    this.#targetReady.resolve(target);
    if (!this.#isWanted) target.stop(); // which could not be said before
    await this.#serially(async () => {
      if (this.#sendEnded || this.#sendStopped.signal.aborted) return; // it ends where it was
      await this.#writer.write(migrateFrame(this.sent));
      this.#sendsByLane = true;
    });
  }

  /** What the stream is given is sent by somebody else, who goes on when this process has ended. */
  deliveredByProxy(): void {
    this.#isDeliveredByProxy = true;
  }

  /** When whoever relays it is done: gives up what of iroh's stream has not ended. */
  detach(): void {
    if (!this.#finished) this.#writer.abort().catch(() => {}); // the stream is over already
    if (!this.#peerFinished) this.#reader.cancel().catch(() => {}); // as above
  }

  /**
   * Ends it in the middle. Never rejects.
   *
   * @param error Says why to the other end, by its code, and to this one.
   * @returns When that has been said, as far as it can be.
   */
  async abort(error: StreamError): Promise<void> {
    this.fail(error);
    const telling = [this.#writer.abort(error), this.#reader.cancel(error)];
    await Promise.allSettled(telling); // the stream may be over already
  }

  /** The other end takes no more data. */
  peerStopped(): void {
    this.#stopSending(new StreamError("reset", "the peer gave up the stream"));
  }

  /** The lane is no good any more. */
  fail(error: StreamError): void {
    this.#stopSending(error);
    this.#failure.reject(error);
    this.#target?.lane.close();
  }

  #onConnectionClosed(error: StreamError): void {
    if (error.kind !== "closed") return this.fail(error);
    this.#closedOrderly.resolve(error);
    this.#delivered.resolve();
    this.#stopSending(error);
    // In order is the end of a peer that knows that all it has sent has come.
    this.#target?.lane.close();
  }

  #stopSending(error: StreamError): void {
    this.#failWriting(error);
    this.#sendStopped.abort(error);
  }

  async #write(chunk: Uint8Array): Promise<void> {
    for (let rest = chunk; rest.length > 0;) {
      const length = await this.#serially(() => this.#send(rest));
      rest = rest.subarray(length);
    }
    this.#onProgress();
  }

  /** Sends a frame of the next data. @returns How much that was. */
  async #send(data: Uint8Array): Promise<number> {
    const part = data.subarray(0, this.#sendsByLane ? MOST_FRAME_BYTES : THROTTLED_WRITE_BYTES);
    const isThrottled = !this.#sendsByLane && !this.#throttle.aborted;
    this.bytesQueued = this.sent + part.length;
    await this.#writeFrame(this.#frameWriter.data(part)); // which has been sent when this is done
    this.sent += part.length;
    if (isThrottled) await delay(THROTTLE_PAUSE_MS, this.#throttle).catch(() => {}); // it is over: go on
    return part.length;
  }

  async #writeFrame(frame: Uint8Array): Promise<void> {
    this.#sendStopped.signal.throwIfAborted();
    if (!this.#sendsByLane) return await this.#writer.write(frame);
    try {
      await abortable(this.#target!.lane.write(frame), this.#sendStopped.signal);
    } catch (error) {
      throw error instanceof StreamError ? error : await this.#laneError(error);
    }
  }

  async #endWriting(): Promise<void> {
    await this.#serially(async () => {
      this.bytesQueued = this.sent + 1;
      await this.#writeFrame(endFrame(this.sent));
      this.#sendEnded = true;
    });
    this.#finishWhenDelivered();
    if (this.#sendsByLane) this.#target!.acknowledged.then(() => this.#delivered.resolve());
    await Promise.race([this.#delivered.promise, this.#failure.promise]);
  }

  async #abortWriting(reason: unknown): Promise<void> {
    if (this.#sendsByLane) this.#target!.lane.close(); // without `end`, which says enough
    await this.#writer.abort(reason);
  }

  /** Sends the end of iroh's stream, when there is nothing more to be sent or received. */
  #finishWhenDelivered(): void {
    const sendsNoMore = this.#sendEnded || this.#peerFinished;
    if (this.#finished || !sendsNoMore || (!this.#receiveEnded && this.#isWanted)) return;
    this.#finished = true;
    const telling = this.#writer.close();
    telling.catch(() => {}); // it had no need to wait for that, or is lost, which is heard
    if (this.#peerFinished) this.#delivered.resolve();
    // Where nothing is heard any more, it is enough that all has arrived; and where the other end has
    // said all, too, that it is in good hands.
    else if (
      !this.#sendsByLane && (!this.#readsStream || (this.#isDeliveredByProxy && this.#receiveEnded))
    ) {
      telling.catch(() => this.#writer.closed) // says why, where the stream has just failed
        .then(() => this.#delivered.resolve(), (error) => this.fail(error));
    }
  }

  /** For what comes by iroh's stream when there is no more data to come by it: its end. */
  async #watchStreamEnd(): Promise<void> {
    if (this.#isEndWatched) return;
    this.#isEndWatched = true;
    try {
      if ((await this.#reader.read()).value) {
        return this.fail(new StreamError("lost", "against the protocol: it goes on after the end"));
      }
    } catch (error) {
      // Of an orderly end of the connection the session hears elsewhere.
      const lost = error instanceof StreamError
        ? withMeaning(error)
        : new StreamError("lost", String(error), { cause: error });
      if (lost.kind !== "closed") this.fail(lost);
      return;
    }
    if (!this.#readsStream) return; // it was given up here
    this.#peerFinished = true;
    if (this.#sendEnded) this.#delivered.resolve();
    else {
      const error = new StreamError("closed", "the peer takes no more");
      this.#closedOrderly.resolve(error);
      this.#stopSending(error);
    }
    this.#finishWhenDelivered();
  }

  #serially<T>(action: () => Promise<T>): Promise<T> {
    const done = this.#sending.then(action);
    this.#sending = done.catch(() => {}); // whoever asked for it is told
    return done;
  }

  async #pull(controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>): Promise<void> {
    for (;;) {
      const piece = await this.#nextPiece();
      if (!this.#isWanted) return; // it was cancelled meanwhile
      if (!piece) throw await this.#cutShort();
      const { data, mark } = this.#decode(piece);
      if (data.length > 0) {
        for (const part of this.#receivesByLane ? [joined(data)] : data) controller.enqueue(part);
        this.#onProgress();
      } else this.#target?.lane.release(piece);
      if (mark === "end") {
        this.#receivedAll();
        return controller.close();
      }
      if (mark === "move") await this.#migrateReading();
      if (data.length > 0) return;
    }
  }

  async #nextPiece(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (!this.#receivesByLane) return await this.#nextPieceOfStream();
    this.#state = "passed on";
    try {
      return await this.#target!.lane.read(); // which fails when the session does
    } catch (error) {
      throw beforeTheEnd(error instanceof StreamError ? error : await this.#laneError(error));
    } finally {
      this.#state = "under way";
    }
  }

  async #nextPieceOfStream(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    try {
      return (await this.#reader.read()).value;
    } catch (error) {
      throw error instanceof StreamError ? withMeaning(beforeTheEnd(error)) : error;
    }
  }

  #decode(piece: Uint8Array<ArrayBuffer>) {
    try {
      const decoded = this.#frames.push(piece);
      if (decoded.mark !== "move" || !this.#receivesByLane) return decoded;
      throw new FrameError("it moves a second time");
    } catch (error) {
      throw new StreamError("lost", `against the protocol: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  async #migrateReading(): Promise<void> {
    using limit = new RunningTimeout(LANE_LIMIT_MS, new StreamError("lost", "it moves to no lane"));
    const ready = Promise.race([this.#targetReady.promise, this.#failure.promise]);
    await abortable(ready, limit.signal);
    this.#receivesByLane = true;
    if (!this.#isWanted) this.#target!.lane.discard();
    this.#watchStreamEnd();
  }

  #receivedAll(): void {
    this.#state = "ended";
    this.#receiveEnded = true;
    if (this.#receivesByLane) this.#target!.acknowledgeEnd();
    this.#watchStreamEnd();
    this.#finishWhenDelivered();
  }

  async #cancelReading(reason: unknown): Promise<void> {
    this.#target?.stop();
    this.#isWanted = false; // a read may wait, and from now on waits for nothing
    if (this.#receivesByLane) this.#target!.lane.discard();
    else this.#readsStream = false;
    this.#finishWhenDelivered();
    if (!this.#readsStream) await this.#reader.cancel(reason);
  }

  /** The end of a transport without `end` is not the end of the data. */
  async #cutShort(): Promise<StreamError> {
    if (this.#receivesByLane) return beforeTheEnd(await this.#laneError(undefined));
    return new StreamError("reset", "the peer gave up the stream");
  }

  /** Why the lane broke: the connection may have ended, and know more. */
  async #laneError(cause: unknown): Promise<StreamError> {
    const failed = this.#failure.promise.catch((error) => error as StreamError);
    const known = Promise.race([this.#closedOrderly.promise, failed]);
    const limit = AbortSignal.timeout(REASON_LIMIT_MS);
    return await abortable(known, limit).catch(() =>
      new StreamError("lost", "the direct connection broke", { cause })
    );
  }
}

/** Parts of one piece as one, moved to where the first begins: few large writes cost less. */
function joined([first, ...others]: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset } = first!;
  let length = first!.length;
  for (const part of others) {
    new Uint8Array(buffer).set(part, byteOffset + length);
    length += part.length;
  }
  return new Uint8Array(buffer, byteOffset, length);
}

/** With words for the code, where it is one that this program gives. */
function withMeaning(error: StreamError): StreamError {
  const meaning = error.code === undefined ? undefined : CLOSE_REASONS.get(error.code);
  if (meaning === undefined) return error;
  const { kind, code } = error;
  return new StreamError(kind, `${meaning} (code ${code})`, { code, cause: error });
}

/** However orderly the connection has ended: what was to come is missing. */
function beforeTheEnd(error: StreamError): StreamError {
  if (error.kind !== "closed") return error;
  return new StreamError("lost", `${error.message} before the end`, { cause: error });
}
