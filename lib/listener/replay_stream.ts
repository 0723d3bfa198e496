/**
 * Opens a session on a kept connection, which may be dead. The opener sends at once, and buffers what it
 * sends until something comes from the peer. If nothing comes for a moment, it dials a new connection and
 * replays the buffer there. git-annex at the peer may see one more session, which ends after its AUTH.
 */

import { delay, delayWhileRunning } from "../async/abort.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { systemReason } from "../console/failure.ts";
import type { MuxConnection } from "../protocol/peer_connection.ts";
import type { OpenedSession } from "../protocol/session_opener.ts";
import { debug } from "../console/stderr.ts";

/** Timeout for a packet from the peer, in addition to two round trips: time for a busy peer to answer. */
const ANSWER_TIMEOUT_MS = 300;
/** Further timeout if a replay would end other sessions, which must not happen to a live connection. */
const SURE_TIMEOUT_MS = 5_000;
/** Interval between two looks at the number of packets: a small part of {@linkcode ANSWER_TIMEOUT_MS}. */
const LOOK_INTERVAL_MS = 10;
/** Maximum bytes sent before a packet has come. They are buffered, so it bounds a session's memory. */
const MAX_UNANSWERED_BYTES = 64 * 1024;

/** A session and its connection. */
export interface PooledStream {
  readonly mux: MuxConnection;
  readonly session: OpenedSession;
}

/** The stream of a session that may be opened a second time. */
export class ReplayStream implements Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
  /** Resolves once it is known which session carries the stream; rejects if none does. */
  readonly confirmed: Promise<PooledStream>;
  #first: PooledStream;
  #writer!: WritableStreamDefaultWriter<Uint8Array>;
  #reader!: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  /** The first read. */
  #reading!: Promise<ReadableStreamReadResult<Uint8Array<ArrayBuffer>>>;
  #isConfirmed = false;
  /** True while the buffer is being replayed. */
  #isSwitching = false;
  #sent: Uint8Array[] = [];
  #sentBytes = 0;
  #ended = false;
  /** Aborted if the process no longer wants the session. */
  #givenUp = new AbortController();

  /**
   * @param reopen Closes all connections with the peer, dials, and opens the session anew.
   * @param isShared Returns true if that would end other sessions.
   */
  constructor(
    first: PooledStream,
    reopen: (signal: AbortSignal) => Promise<PooledStream>,
    isShared: () => boolean,
  ) {
    this.#first = first;
    this.#attach(first);
    this.confirmed = this.#confirm(reopen, isShared);
    this.confirmed.catch(() => {}); // reads and writes fail with the same
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
    // A failed read proves nothing: the connection has ended, or the peer has given up the stream.
    const answered = Promise.race([this.#reading.then(() => true, () => alive), alive]);
    try {
      const limit = ANSWER_TIMEOUT_MS + 2 * (this.#first.mux.connection.roundTripMs ?? 0);
      const late = delayWhileRunning(limit, signal)
        .then(() => isShared() ? delayWhileRunning(SURE_TIMEOUT_MS, signal) : undefined);
      if (await Promise.race([answered, late.then(() => false)])) return this.#first;
      debug(() => "the peer does not answer on the kept connection; dialing again");
      const pooled = await reopen(this.#givenUp.signal);
      await this.#switchTo(pooled).catch((error) => {
        pooled.session[Symbol.dispose]();
        throw error;
      });
      return pooled;
    } catch (error) {
      if (error instanceof StreamError) throw error;
      const reason = `it no longer answers, and was dialed again: ${systemReason(error)}`;
      throw new StreamError("lost", reason, { cause: error });
    } finally {
      this.#isConfirmed = true;
      this.#sent = [];
      done.abort();
    }
  }

  /** Returns true once a packet has come from the peer, false once the connection has ended. */
  async #isAlive(signal: AbortSignal): Promise<boolean> {
    const { connection } = this.#first.mux, before = connection.packetsReceived;
    let isClosed = false;
    connection.closedError.then(() => isClosed = true);
    while (!isClosed && !signal.aborted) {
      if (connection.packetsReceived !== before) {
        // The packet may have closed the connection, which `closedError` tells a moment later.
        await delay(2 * LOOK_INTERVAL_MS, signal).catch(() => {}); // the stream has confirmed it
        return !isClosed;
      }
      await delay(LOOK_INTERVAL_MS, signal).catch(() => {}); // the loop ends
    }
    return false;
  }

  #attach({ session: { stream } }: PooledStream): void {
    this.#writer = stream.writable.getWriter();
    this.#writer.closed.catch(() => {}); // writes fail with the same error
    this.#reader = stream.readable.getReader();
    this.#readOn();
  }

  #readOn(): void {
    this.#reading = this.#reader.read();
    this.#reading.catch(() => {}); // #pull fails with the same error
  }

  async #switchTo(pooled: PooledStream): Promise<void> {
    this.#isSwitching = true;
    const old = this.#writer, oldReader = this.#reader;
    this.#attach(pooled);
    old.abort().catch(() => {}); // its connection is gone
    oldReader.cancel().catch(() => {}); // its connection is gone
    this.#first.session[Symbol.dispose]();
    for (const chunk of this.#sent) await this.#writer.write(chunk);
    if (this.#ended) this.#writer.close().catch(() => {}); // reads fail, too
  }

  async #write(chunk: Uint8Array): Promise<void> {
    const isTooMuch = this.#sentBytes + chunk.length > MAX_UNANSWERED_BYTES;
    if (this.#isConfirmed || this.#isSwitching || isTooMuch) {
      await this.confirmed;
      return await this.#writer.write(chunk);
    }
    this.#sent.push(chunk.slice());
    this.#sentBytes += chunk.length;
    // If it fails, the buffer is replayed.
    this.#writer.write(chunk.slice()).catch(() => {});
  }

  async #close(): Promise<void> {
    this.#ended = true;
    if (!this.#isConfirmed && !this.#isSwitching) this.#writer.close().catch(() => {}); // see #switchTo
    await this.confirmed;
    await this.#writer.close().catch(async (error) => {
      if (!(error instanceof TypeError)) throw error;
      await this.#writer.closed; // it is already being closed
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
