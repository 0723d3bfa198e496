/**
 * One of iroh's connections on the mux protocol, with the streams that either end opens on it. When a session
 * is over, the connection is kept for the next one for a while.
 */

import { abortable, LinkedSignal } from "../async/abort.ts";
import { type Duplex, giveUp, StreamError } from "../streams/duplex.ts";
import type { Connection } from "../iroh/connection.ts";
import { debug } from "../console/stderr.ts";
import {
  answerPing,
  noticeLossSoon,
  ProtocolError,
  readStreamHeader,
  type SessionStart,
  StreamType,
  UnsupportedStream,
} from "./mux.ts";
import { CloseCode, type CloseReason } from "./close_codes.ts";
import { ConnectionUse, IdleTimeout, NO_HEADER } from "./connection_use.ts";
import {
  InboundSession,
  type InboundSessionOptions,
  type SessionOwner,
} from "./inbound_session.ts";
import { type OpenedSession, SessionOpener, type SessionRequest } from "./session_opener.ts";
import { StrangerStreams } from "./stranger_streams.ts";

/** Timeout for the header of each stream. */
const HEADER_TIMEOUT_MS = 10_000;

/** How a connection is served. */
export interface MuxConnectionOptions extends InboundSessionOptions {
  /** Whether this end dialed it. A peer that was dialed is no stranger. */
  readonly isDialed: boolean;
  /** Serves a session that the peer has opened, to its end. Never rejects. */
  readonly serve: (session: InboundSession) => Promise<void>;
  /**
   * Answers a request of a joiner. Without it, this end does not know streams of that type.
   *
   * @throws {StreamError} if the peer gives up the stream. Any other error ends the connection.
   */
  readonly pair?:
    | ((stream: Duplex, mux: MuxConnection, signal: AbortSignal) => Promise<void>)
    | undefined;
  /** Called each time it turns out that the peer is no stranger. */
  readonly onAuthenticated?: () => void;
  /** Timeout after which a connection without a session is closed. By default it depends on the dialer. */
  readonly idleTimeoutMs?: number;
  /** Timeout for the header of each stream. By default {@linkcode HEADER_TIMEOUT_MS}. */
  readonly headerTimeoutMs?: number;
  /** Time for which a session of a stranger waits and counts. By default a second. */
  readonly strangerWaitMs?: number;
}

/** A connection with a peer that speaks the mux protocol. Its owner calls {@linkcode serve} once. */
export class MuxConnection implements SessionOwner {
  readonly connection: Connection;
  #options: MuxConnectionOptions;
  #use: ConnectionUse;
  #opener: SessionOpener;
  /** Sessions that the peer has opened, by number. */
  #sessions = new Map<number, InboundSession>();
  #serving = new Set<Promise<void>>();
  #strangers: StrangerStreams;
  /** Resolves when each stream that has come until now has begun its session, or begins none. */
  #sessionsBegun: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(connection: Connection, options: MuxConnectionOptions) {
    this.connection = connection;
    this.#options = options;
    this.#use = new ConnectionUse(options.isDialed, options.idleTimeoutMs);
    this.#opener = new SessionOpener(connection, options.isDialed);
    const isStranger = () => !this.isAuthenticated;
    this.#strangers = new StrangerStreams(isStranger, options.strangerWaitMs);
    noticeLossSoon(connection);
    connection.closedError.then(() => this.#isClosed = true);
  }

  /** Whether this end dialed it. */
  get isDialed(): boolean {
    return this.#options.isDialed;
  }

  /** Whether the peer is no stranger. */
  get isAuthenticated(): boolean {
    return this.#use.isAuthenticated;
  }

  /** Notes that the peer is no stranger: git-annex has let it in, or this end has opened a session with it. */
  markAuthenticated(): void {
    this.#use.isAuthenticated = true;
    this.#options.onAuthenticated?.();
    this.#strangers.onLetIn();
  }

  /** Whether the connection has ended. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Whether there is more than one session. */
  get isShared(): boolean {
    return this.#use.isShared;
  }

  /** When the last session ended, by the clock of `performance`; undefined while there is one. */
  get idleSince(): number | undefined {
    return this.#use.idleSince;
  }

  refused(reason: CloseReason): void {
    this.#use.refused(reason);
  }

  /**
   * Serves what the peer opens, until the connection ends or has not been used for a while. The caller then closes
   * the connection. All sessions are over by then.
   *
   * @throws {IdleTimeout}, {ProtocolError}, {StreamError} when the connection has ended, or the signal's reason.
   */
  async serve(signal: AbortSignal): Promise<never> {
    using use = this.#use;
    using linked = new LinkedSignal([signal, use.over]);
    const until = linked.signal;
    use.restartTimer();
    try {
      for (;;) {
        await this.#strangers.awaitRoom(until);
        const stream = await this.connection.accept(until);
        const received = this.#strangers.streamBegan();
        this.#receiveStream(stream, until).catch((error) => {
          if (error instanceof UnsupportedStream) {
            return refuse(stream, CloseCode.UNSUPPORTED, error.message);
          }
          if (!(error instanceof StreamError)) return use.end(error);
          // The peer has given up that stream, and nothing else.
          debug(() => `a stream: ${error.message}`);
          giveUp(stream);
        }).finally(received);
      }
    } catch (error) {
      // If the connection has ended, each session ends by itself.
      if (!(error instanceof StreamError)) {
        for (const session of this.#sessions.values()) session.end(error);
      }
      await Promise.all(this.#serving);
      throw error;
    }
  }

  /** Whether the peer's limit of streams permits one more session with its lane. */
  get hasRoom(): boolean {
    return this.#opener.hasRoom;
  }

  /** Opens or resumes a session. @throws {StreamError} if the connection has ended, or the signal's reason. */
  async open(signal: AbortSignal, request: SessionRequest): Promise<OpenedSession> {
    this.#use.sessionBegan();
    try {
      const opened = await this.#opener.open(request, signal);
      this.markAuthenticated(); // this end wants to reach the peer
      return {
        ...opened,
        [Symbol.dispose]: () => {
          opened[Symbol.dispose]();
          this.#use.sessionEnded();
        },
      };
    } catch (error) {
      this.#use.sessionEnded();
      throw error;
    }
  }

  /** Has {@linkcode serve} end, so that the connection is closed with code 0. */
  closeGracefully(): void {
    this.#use.end();
  }

  get #headerTimeoutMs(): number {
    return this.#options.headerTimeoutMs ?? HEADER_TIMEOUT_MS;
  }

  async #receiveStream(stream: Duplex, until: AbortSignal): Promise<void> {
    const earlier = this.#sessionsBegun, begun = Promise.withResolvers<void>();
    this.#sessionsBegun = earlier.then(() => begun.promise);
    try {
      const reason = new IdleTimeout(NO_HEADER);
      const milliseconds = this.#headerTimeoutMs;
      using limit = new LinkedSignal([until], { milliseconds, reason });
      const header = await abortable(readStreamHeader(stream), limit.signal);
      if (header.type === StreamType.SESSION || header.type === StreamType.RESUME) {
        return await this.#dispatch(header, stream, until);
      }
      begun.resolve(); // it begins none
      if (header.type === StreamType.LANE) {
        await this.#answerLane(header.session, stream, earlier, until);
      } else if (header.type === StreamType.PING) {
        await abortable(answerPing(stream), limit.signal);
        this.#use.restartTimer();
      } else await this.#pair(stream, until);
    } finally {
      begun.resolve();
    }
  }

  async #pair(stream: Duplex, until: AbortSignal): Promise<void> {
    const { pair } = this.#options;
    if (!pair) throw new UnsupportedStream(StreamType.PAIR);
    this.#use.requestBegan();
    try {
      await pair(stream, this, until);
    } finally {
      this.#use.requestEnded();
    }
  }

  async #dispatch(header: SessionStart, stream: Duplex, until: AbortSignal): Promise<void> {
    if (header.type === StreamType.SESSION) {
      if (this.#strangers.hasMaxSessions) await this.#strangers.awaitSessionRoom(until);
      if (this.#strangers.hasMaxSessions) {
        return refuse(stream, CloseCode.BUSY, "too many sessions of a stranger");
      }
    }
    if (this.#sessions.has(header.session)) {
      throw new ProtocolError("a session's number a second time");
    }
    if (header.type === StreamType.SESSION) this.#beginSession(header, stream);
    else this.#resumeSession(header, stream);
  }

  /**
   * Has a session answer an offer of a lane. The header of the session may come later than that of the offer.
   *
   * @param earlier Resolves when each stream before this one has begun its session, or begins none.
   */
  async #answerLane(
    number: number,
    stream: Duplex,
    earlier: Promise<void>,
    until: AbortSignal,
  ): Promise<void> {
    if (!this.#sessions.has(number)) await abortable(earlier, until);
    const session = this.#sessions.get(number);
    if (session) session.answerLane(stream, until);
    else giveUp(stream); // it has ended while this was on its way
  }

  #beginSession({ session: number, id }: { session: number; id: string }, stream: Duplex): void {
    if (this.isDialed) this.#opener.letIn(); // the peer wants to reach this end
    const inbound = new InboundSession(this, stream, id, this.#options);
    const serving = this.#options.serve(inbound).catch((error) => {
      this.#use.end(error); // nothing is served any longer
    }).finally(() => inbound[Symbol.dispose]());
    this.#keepUntilOver(number, inbound, serving);
  }

  /** Goes on with a session of another connection, if it is the same peer's. */
  #resumeSession({ session: number, id }: { session: number; id: string }, stream: Duplex): void {
    const inbound = this.#options.resumable?.find(id, this.connection.publicKey);
    if (!inbound) return refuse(stream, CloseCode.BROKEN_OFF, "there is no such session");
    debug(() => "a session is resumed");
    this.markAuthenticated();
    inbound.resume(this, stream);
    this.#keepUntilOver(number, inbound, inbound.over);
  }

  /** Counts a session until it is over, or goes on on another connection. */
  #keepUntilOver(number: number, inbound: InboundSession, over: Promise<void>): void {
    this.#sessions.set(number, inbound);
    this.#use.sessionBegan();
    const ended = this.#strangers.sessionBegan();
    const leaving = Promise.race([over, inbound.moved]).finally(() => {
      this.#sessions.delete(number);
      this.#serving.delete(leaving);
      this.#use.sessionEnded();
      ended();
    });
    this.#serving.add(leaving);
  }
}

/** Gives up a stream, and nothing else. */
function refuse(stream: Duplex, code: bigint, message: string): void {
  const reason = new StreamError("refused", message, { code });
  stream.readable.cancel(reason).catch(() => {}); // the connection is gone, and the stream with it
  stream.writable.abort(reason).catch(() => {}); // fails for the same reason
}
