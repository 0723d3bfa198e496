/**
 * A session on a connection that was kept, of which nobody knows whether the peer is still there. What
 * is sent is sent at once, and kept until something comes from the peer; if nothing does for a moment,
 * a new connection is dialed, and the same is sent there. git-annex at the peer sees at most a session
 * more, which has got no further than to say who it is.
 */

import { delay, delayWhileRunning } from "../async/abort.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { systemReason } from "../console/failure.ts";
import type { MuxConnection, OpenedSession } from "../protocol/peer_connection.ts";
import { debug } from "../console/stderr.ts";

/** Beside two round trips; where other sessions would be lost, so long that it is beyond doubt. */
const ANSWER_LIMIT_MS = 300, SURE_LIMIT_MS = 5_000;
const LOOK_MS = 10;
/** Most that is sent before something has come. */
const MOST_UNANSWERED_BYTES = 64 * 1024;

/** A session, and the connection it is on. */
export interface PooledStream {
  readonly mux: MuxConnection;
  readonly session: OpenedSession;
}

/** A stream of a session that may have to be opened again. */
export class ReplayStream implements Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
  /** The session that it is, once that is known. Rejects if there is none any more. */
  readonly confirmed: Promise<PooledStream>;
  #first: PooledStream;
  #writer!: WritableStreamDefaultWriter<Uint8Array>;
  #reader!: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  /** What came first. */
  #reading!: Promise<ReadableStreamReadResult<Uint8Array<ArrayBuffer>>>;
  #isConfirmed = false;
  /** Whether what was sent is being sent again. */
  #isSwitching = false;
  #sent: Uint8Array[] = [];
  #sentBytes = 0;
  #ended = false;
  /** Aborted when nobody wants it any more. */
  #givenUp = new AbortController();

  /**
   * @param reopen Gives up what there is with the peer, dials, and opens the session anew.
   * @param isShared Whether other sessions would be lost by that.
   */
  constructor(
    first: PooledStream,
    reopen: (signal: AbortSignal) => Promise<PooledStream>,
    isShared: () => boolean,
  ) {
    this.#first = first;
    this.#attach(first);
    this.confirmed = this.#confirm(reopen, isShared);
    this.confirmed.catch(() => {}); // told to whoever reads
    this.readable = new ReadableStream({
      type: "bytes",
      pull: (controller) => this.#pull(controller as ReadableByteStreamController),
      cancel: async (reason) => {
        this.#givenUp.abort(reason);
        await this.#reader.cancel(reason);
      },
    });
    this.writable = new WritableStream({
      write: (chunk) => this.#write(chunk),
      close: () => this.#close(),
      abort: async (reason) => {
        this.#givenUp.abort(reason);
        await this.#writer.abort(reason);
      },
    });
  }

  async #confirm(
    reopen: (signal: AbortSignal) => Promise<PooledStream>,
    isShared: () => boolean,
  ): Promise<PooledStream> {
    const done = new AbortController();
    const { signal } = done;
    const alive = this.#isAlive(signal);
    // A read that fails says nothing: the connection is over, or the peer has given up the stream.
    const answered = Promise.race([this.#reading.then(() => true, () => alive), alive]);
    try {
      const limit = ANSWER_LIMIT_MS + 2 * (this.#first.mux.connection.roundTripMs ?? 0);
      const late = delayWhileRunning(limit, signal)
        .then(() => isShared() ? delayWhileRunning(SURE_LIMIT_MS, signal) : undefined);
      if (await Promise.race([answered, late.then(() => false)])) return this.#first;
      debug(() => "the peer does not answer on the connection that was kept; dialing again");
      const pooled = await reopen(this.#givenUp.signal);
      await this.#switchTo(pooled).catch((error) => {
        pooled.session[Symbol.dispose]();
        throw error;
      });
      return pooled;
    } catch (error) {
      if (error instanceof StreamError) throw error;
      const reason = `it answers no more, and was dialed again: ${systemReason(error)}`;
      throw new StreamError("lost", reason, { cause: error });
    } finally {
      this.#isConfirmed = true;
      this.#sent = [];
      done.abort();
    }
  }

  /** True when any packet has come from the peer, false when the connection has ended. */
  async #isAlive(signal: AbortSignal): Promise<boolean> {
    const { connection } = this.#first.mux, before = connection.packetsReceived;
    let isClosed = false;
    connection.closedError.then(() => isClosed = true);
    while (!isClosed && !signal.aborted) {
      if (connection.packetsReceived !== before) {
        // It may have been the packet that ends the connection, of which is heard in a moment.
        await delay(2 * LOOK_MS, signal).catch(() => {}); // as below
        return !isClosed;
      }
      await delay(LOOK_MS, signal).catch(() => {}); // settled: nobody listens any more
    }
    return false;
  }

  #attach({ session: { stream } }: PooledStream): void {
    this.#writer = stream.writable.getWriter();
    this.#writer.closed.catch(() => {}); // writes fail with the same
    this.#reader = stream.readable.getReader();
    this.#readOn();
  }

  #readOn(): void {
    this.#reading = this.#reader.read();
    this.#reading.catch(() => {}); // told to whoever reads
  }

  async #switchTo(pooled: PooledStream): Promise<void> {
    this.#isSwitching = true;
    const old = this.#writer, oldReader = this.#reader;
    this.#attach(pooled);
    old.abort().catch(() => {}); // it is gone
    oldReader.cancel().catch(() => {}); // as above
    this.#first.session[Symbol.dispose]();
    for (const chunk of this.#sent) await this.#writer.write(chunk);
    if (this.#ended) this.#writer.close().catch(() => {}); // its reading tells
  }

  async #write(chunk: Uint8Array): Promise<void> {
    const isTooMuch = this.#sentBytes + chunk.length > MOST_UNANSWERED_BYTES;
    if (this.#isConfirmed || this.#isSwitching || isTooMuch) {
      await this.confirmed;
      return await this.#writer.write(chunk);
    }
    this.#sent.push(chunk.slice());
    this.#sentBytes += chunk.length;
    // Whether it gets there is known when it is settled.
    this.#writer.write(chunk.slice()).catch(() => {});
  }

  async #close(): Promise<void> {
    this.#ended = true;
    if (!this.#isConfirmed && !this.#isSwitching) this.#writer.close().catch(() => {}); // as above
    await this.confirmed;
    await this.#writer.close().catch(async (error) => {
      if (!(error instanceof TypeError)) throw error;
      await this.#writer.closed; // it was closed above
    });
  }

  async #pull(controller: ReadableByteStreamController): Promise<void> {
    await this.confirmed;
    const { value, done } = await this.#reading;
    if (!done) {
      this.#readOn();
      return controller.enqueue(value);
    }
    controller.close();
    controller.byobRequest?.respond(0);
  }
}
