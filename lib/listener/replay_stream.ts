/**
 * Opens a session on a kept connection, which may be dead. The opener sends at once, and buffers what it
 * sends until something comes from the peer. If nothing comes for a moment, it dials a new connection and
 * replays the buffer there. git-annex at the peer may see one more session, which ends after its AUTH.
 */

import { delay, delayWhileRunning } from "../async/abort.ts";
import { onResolved } from "../async/on_resolved.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { systemReason } from "../console/failure.ts";
import type { MuxConnection } from "../protocol/peer_connection.ts";
import type { OpenedSession } from "../protocol/session_opener.ts";
import { debug } from "../console/stderr.ts";
import { ReplayBuffer } from "./replay_buffer.ts";

/** Timeout for a packet from the peer, in addition to two round trips: time for a busy peer to answer. */
const ANSWER_TIMEOUT_MS = 300;
/** Further timeout if a replay would end other sessions, which must not happen to a live connection. */
const SURE_TIMEOUT_MS = 5_000;
/** Interval between two looks at the number of packets: a small part of {@linkcode ANSWER_TIMEOUT_MS}. */
const LOOK_INTERVAL_MS = 10;

/** A session and its connection. */
export interface PooledStream {
  readonly mux: MuxConnection;
  readonly session: OpenedSession;
}

/** The stream of a session in use. The first read has begun. */
class AttachedStream {
  readonly writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  /** The next read. */
  reading: Promise<ReadableStreamReadResult<Uint8Array<ArrayBuffer>>>;

  constructor({ session: { stream } }: PooledStream) {
    this.writer = stream.writable.getWriter();
    this.writer.closed.catch(() => {}); // writes fail with the same error
    this.reader = stream.readable.getReader();
    this.reading = this.#read();
  }

  /** Begins the next read, once the one before has ended. */
  readOn(): void {
    this.reading = this.#read();
  }

  #read(): Promise<ReadableStreamReadResult<Uint8Array<ArrayBuffer>>> {
    const reading = this.reader.read();
    reading.catch(() => {}); // those that await it get the error
    return reading;
  }

  /** Gives up both directions, since the connection is gone. */
  drop(): void {
    this.writer.abort().catch(() => {}); // it has failed already
    this.reader.cancel().catch(() => {}); // it has failed already
  }
}

/** The stream of a session that may be opened a second time. */
export class ReplayStream implements Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
  /** Resolves once it is known which session carries the stream; rejects if none does. */
  readonly confirmed: Promise<PooledStream>;
  #first: PooledStream;
  #stream: AttachedStream;
  #buffer = new ReplayBuffer();
  #state: "unconfirmed" | "replaying" | "confirmed" = "unconfirmed";
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
    this.#stream = new AttachedStream(first);
    this.confirmed = this.#confirm(reopen, isShared);
    this.confirmed.catch(() => {}); // reads and writes fail with the same
    this.readable = new ReadableStream({
      type: "bytes",
      pull: (controller) => this.#pull(controller as ReadableByteStreamController),
      cancel: async (reason) => {
        this.#givenUp.abort(reason);
        await this.#stream.reader.cancel(reason);
      },
    });
    this.writable = new WritableStream({
      write: (chunk) => this.#write(chunk),
      close: () => this.#close(),
      abort: async (reason) => {
        this.#givenUp.abort(reason);
        await this.#stream.writer.abort(reason);
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
    const answered = Promise.race([this.#stream.reading.then(() => true, () => alive), alive]);
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
      this.#state = "confirmed";
      this.#buffer.clear();
      done.abort();
    }
  }

  /** Returns true once a packet has come from the peer, false once the connection has ended. */
  async #isAlive(signal: AbortSignal): Promise<boolean> {
    const { connection } = this.#first.mux, before = connection.packetsReceived;
    let isClosed = false;
    using _closed = onResolved(connection.closedError, () => isClosed = true);
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

  async #switchTo(pooled: PooledStream): Promise<void> {
    this.#state = "replaying";
    this.#stream.drop();
    this.#stream = new AttachedStream(pooled);
    this.#first.session[Symbol.dispose]();
    await this.#buffer.replay(this.#stream.writer);
  }

  async #write(chunk: Uint8Array): Promise<void> {
    if (this.#state !== "unconfirmed" || !this.#buffer.add(chunk)) {
      await this.confirmed;
      return await this.#stream.writer.write(chunk);
    }
    // If it fails, the buffer is replayed.
    this.#stream.writer.write(chunk.slice()).catch(() => {});
  }

  async #close(): Promise<void> {
    this.#buffer.isEnded = true;
    if (this.#state === "unconfirmed") this.#stream.writer.close().catch(() => {}); // see #switchTo
    await this.confirmed;
    const { writer } = this.#stream;
    await writer.close().catch(async (error) => {
      if (!(error instanceof TypeError)) throw error;
      await writer.closed; // it is already being closed
    });
  }

  async #pull(controller: ReadableByteStreamController): Promise<void> {
    await this.confirmed;
    const { value, done } = await this.#stream.reading;
    if (!done) {
      this.#stream.readOn();
      return controller.enqueue(value);
    }
    controller.close();
    controller.byobRequest?.respond(0);
  }
}
