/** One of iroh's connections in memory, on the mux protocol. */

import { abortable } from "../lib/async/abort.ts";
import { Notifier } from "../lib/async/notifier.ts";
import type { Connection } from "../lib/iroh/connection.ts";
import { MUX_ALPN, newSessionId, StreamType, writeStreamHeader } from "../lib/protocol/mux.ts";
import { Session, type SessionOptions } from "../lib/protocol/session.ts";
import { type Duplex, StreamError } from "../lib/streams/duplex.ts";
import { pipe } from "./pipe.ts";

/** An accepted connection, whose streams a test opens as the peer. */
export class MemoryConnection {
  readonly alpn = MUX_ALPN;
  readonly endpoint = { knownAddresses: () => ({ relay: undefined, direct: [] }) };
  readonly path = { kind: "direct", address: "192.0.2.1:5" };
  readonly publicKey: Uint8Array;
  readonly closedError: Promise<StreamError>;
  /** Resolves with code and reason when this end closes. */
  readonly closed: Promise<readonly [bigint, string]>;
  readonly close: (code: bigint, reason: string) => void;
  packetBytes = 0;
  packetBytesReceived = 0;
  isSilent = false;
  readonly #end: (error: StreamError) => void;
  #streams: Duplex[] = [];
  #opened = new Notifier();

  /** @param key Each byte of the peer's public key. */
  constructor(key = 0xab) {
    this.publicKey = new Uint8Array(32).fill(key);
    const ended = Promise.withResolvers<StreamError>();
    this.closedError = ended.promise;
    this.#end = ended.resolve;
    const closed = Promise.withResolvers<readonly [bigint, string]>();
    this.closed = closed.promise;
    this.close = (code, reason) => {
      closed.resolve([code, reason]);
      this.#end(new StreamError("closed", "the connection was closed on this side"));
    };
  }

  get asConnection(): Connection {
    return this as unknown as Connection;
  }

  noticeLossWithin(): void {} // it is lost when a test says so

  async closeAnswered(): Promise<void> {} // at once

  /** Loses the connection, as both ends see it. */
  lose(): void {
    this.#end(new StreamError("lost", "nothing comes"));
  }

  /** Opens a stream as the peer. */
  openAsPeer(): Duplex {
    const [mine, peers] = pipe();
    this.#streams.push(mine);
    this.#opened.notify();
    return peers;
  }

  async accept(signal: AbortSignal): Promise<Duplex> {
    const ended = this.closedError.then((error) => Promise.reject(error));
    ended.catch(() => {}); // it may end later
    while (this.#streams.length === 0) {
      await abortable(Promise.race([this.#opened.next(), ended]), signal);
    }
    return this.#streams.shift()!;
  }

  /** Opens a session as the peer. */
  async openSession(
    number: number,
    id: string = newSessionId(),
    options: SessionOptions = {},
  ): Promise<Session> {
    const stream = this.openAsPeer();
    await writeStreamHeader(stream, { type: StreamType.SESSION, session: number, id });
    return new Session(stream, this.closedError, options);
  }

  /** Opens a stream as the peer, to resume a session. */
  async resumeSession(number: number, id: string): Promise<Duplex> {
    const stream = this.openAsPeer();
    await writeStreamHeader(stream, { type: StreamType.RESUME, session: number, id });
    return stream;
  }
}
