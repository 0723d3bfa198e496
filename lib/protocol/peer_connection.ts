/**
 * One of iroh's connections on the mux protocol, with the streams that either end opens on it. When a session
 * is over, the connection is kept for the next one for a while.
 */

import { abortable } from "../async/abort.ts";
import { type Duplex, giveUp, StreamError } from "../streams/duplex.ts";
import type { Connection } from "../iroh/connection.ts";
import type { Lane } from "../lane/lane.ts";
import { debug } from "../console/stderr.ts";
import {
  answerPing,
  noticeLossSoon,
  ProtocolError,
  readStreamHeader,
  type StreamHeader,
  StreamType,
  UnsupportedStream,
  writeStreamHeader,
} from "./mux.ts";
import { CloseCode } from "./close_codes.ts";
import type { ResumableSessions } from "./resumable_sessions.ts";
import { Session } from "./session.ts";

/** Timeout for a stranger's first stream, and for the header of each stream. */
const HEADER_TIMEOUT_MS = 10_000;
/** Timeout after which the dialer closes a connection without a session. */
const IDLE_TIMEOUT_MS = 60_000;
/** The acceptor's timeout for that. It is longer, so that the dialer, which may need the connection, decides. */
const ACCEPTED_IDLE_TIMEOUT_MS = 90_000;
/** Timeout for git-annex to let a peer in that offers a lane. Its answer may be on its way. */
const AUTH_TIMEOUT_MS = 5_000;

/** Timeout for opening a stream, which takes no time unless the peer's limit of streams is reached. */
const OPEN_TIMEOUT_MS = 5_000;
/** Timeout for the opener to resume a session after its connection was lost. */
const KEEP_TIMEOUT_MS = 30_000;
/** Maximum number of streams that this end has open on a connection. noq grants 100. */
const MAX_STREAMS = 96;

/** The code and the reason with which a connection or a session is ended. */
export type CloseReason = readonly [code: bigint, reason: string];

const DONE: CloseReason = [CloseCode.DONE, ""];
const NO_HEADER: CloseReason = [CloseCode.BAD_HELLO, "no hello"];

/** How a connection is served. */
export interface MuxConnectionOptions {
  /** Whether this end dialed it. A peer that was dialed is no stranger. */
  readonly isDialed: boolean;
  /** The setting `bind`. */
  readonly bind: string | undefined;
  /** Serves a session that the peer has opened, to its end. Never rejects. */
  readonly serve: (session: InboundSession) => Promise<void>;
  /** Called each time it turns out that the peer is no stranger. */
  readonly onAuthenticated?: () => void;
  /** Called when the peer resumes a session, which has a permit already. */
  readonly onResumed?: () => void;
  /** Sessions that may be resumed on this connection. By default there are none. */
  readonly resumable?: ResumableSessions<InboundSession>;
  /** Timeout for a session to be resumed. By default {@linkcode KEEP_TIMEOUT_MS}. */
  readonly resumeTimeoutMs?: number;
  /** Timeout after which a connection without a session is closed. By default it depends on the dialer. */
  readonly idleTimeoutMs?: number;
}

/** Which session to open, or to go on with. */
export interface SessionRequest {
  /** See {@linkcode newSessionId}. */
  readonly id: string;
  /** Whether it was opened on another connection, which was lost. */
  readonly isResumed: boolean;
}

/** A session that this end has opened. Dispose of it when it is over. */
export interface OpenedSession extends Disposable {
  /** The stream of the session, after its header. */
  readonly stream: Duplex;
  /** Opens a stream on which to agree on a lane for the session. */
  openLane(signal: AbortSignal): Promise<Duplex>;
}

/** A connection with a peer that speaks the mux protocol. Its owner calls {@linkcode serve} once. */
export class MuxConnection {
  readonly connection: Connection;
  /** When the last session ended, by the clock of `performance`; undefined while there is one. */
  idleSince: number | undefined = performance.now();
  #options: MuxConnectionOptions;
  #isAuthenticated: boolean;
  #sessionsOpened = 0;
  /** Number of streams that this end has opened, and that may still be open. */
  #streams = 0;
  /** Sessions that the peer has opened, by number. */
  #sessions = new Map<number, InboundSession>();
  #serving = new Set<Promise<void>>();
  #active = 0;
  /** The reason with which the peer's last session was turned away. */
  #refusedWith: CloseReason | undefined;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;
  #shutdown = new AbortController();

  constructor(connection: Connection, options: MuxConnectionOptions) {
    this.connection = connection;
    this.#options = options;
    this.#isAuthenticated = options.isDialed;
    noticeLossSoon(connection);
    connection.closedError.then(() => this.#isClosed = true);
  }

  /** Whether this end dialed it. */
  get isDialed(): boolean {
    return this.#options.isDialed;
  }

  /** Whether the peer is no stranger. */
  get isAuthenticated(): boolean {
    return this.#isAuthenticated;
  }

  /** Notes that the peer is no stranger: git-annex has let it in, or this end has opened a session with it. */
  markAuthenticated(): void {
    this.#isAuthenticated = true;
    this.#options.onAuthenticated?.();
  }

  /** Whether the connection has ended. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Whether there is more than one session. */
  get isShared(): boolean {
    return this.#active > 1;
  }

  /** Notes why a session of the peer's was turned away. */
  refused(reason: CloseReason): void {
    this.#refusedWith = reason;
  }

  /**
   * Serves what the peer opens, until the connection ends or has not been used for a while. The caller then closes
   * the connection. All sessions are over by then.
   *
   * @throws {IdleTimeout}, {ProtocolError}, {StreamError} when the connection has ended, or the signal's reason.
   */
  async serve(signal: AbortSignal): Promise<never> {
    const until = AbortSignal.any([signal, this.#shutdown.signal]);
    this.#startIdleTimer();
    try {
      for (;;) {
        const stream = await this.connection.accept(until);
        this.#receiveStream(stream, until).catch((error) => {
          if (error instanceof UnsupportedStream) {
            return refuse(stream, CloseCode.UNSUPPORTED, error.message);
          }
          if (!(error instanceof StreamError)) return this.#shutdown.abort(error);
          // The peer has given up that stream, and nothing else.
          debug(() => `a stream: ${error.message}`);
          giveUp(stream);
        });
      }
    } catch (error) {
      // If the connection has ended, each session ends by itself.
      if (!(error instanceof StreamError)) {
        for (const session of this.#sessions.values()) session.end(error);
      }
      await Promise.all(this.#serving);
      throw error;
    } finally {
      clearTimeout(this.#idleTimer);
    }
  }

  /** Whether the peer's limit of streams permits one more session with its lane. */
  get hasRoom(): boolean {
    return this.#streams + 2 <= MAX_STREAMS;
  }

  /** Opens or resumes a session. @throws {StreamError} if the connection has ended, or the signal's reason. */
  async open(signal: AbortSignal, { id, isResumed }: SessionRequest): Promise<OpenedSession> {
    const session = this.#sessionsOpened++;
    let streams = 0, isEnded = false;
    const openFor = async (
      header: Parameters<typeof writeStreamHeader>[1],
      signal: AbortSignal,
    ) => {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(OPEN_TIMEOUT_MS)]);
      const stream = await abortable(this.connection.open(), limit, giveUp);
      try {
        await abortable(writeStreamHeader(stream, header), limit);
        if (isEnded) throw new StreamError("closed", "the session is over");
      } catch (error) {
        giveUp(stream);
        throw error;
      }
      streams++;
      this.#streams++;
      return stream;
    };
    this.#sessionBegan();
    try {
      const type = isResumed ? StreamType.RESUME : StreamType.SESSION;
      const stream = await openFor({ type, session, id }, signal);
      this.markAuthenticated(); // this end wants to reach the peer
      return {
        stream,
        openLane: (signal) => openFor({ type: StreamType.LANE, session }, signal),
        [Symbol.dispose]: () => {
          isEnded = true;
          this.#streams -= streams;
          this.#sessionEnded();
        },
      };
    } catch (error) {
      this.#sessionEnded();
      throw error;
    }
  }

  /** Has {@linkcode serve} end, so that the connection is closed with code 0. */
  closeGracefully(): void {
    this.#shutdown.abort(new IdleTimeout(DONE));
  }

  async #receiveStream(stream: Duplex, until: AbortSignal): Promise<void> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(new IdleTimeout(NO_HEADER)), HEADER_TIMEOUT_MS);
    try {
      const signal = AbortSignal.any([until, limit.signal]);
      const header = await abortable(readStreamHeader(stream), signal);
      if (header.type === StreamType.PING) {
        await abortable(answerPing(stream), signal);
        if (this.#active === 0) this.#startIdleTimer();
      } else this.#dispatch(header, stream, until);
    } finally {
      clearTimeout(timer);
    }
  }

  #dispatch(
    header: Exclude<StreamHeader, { type: typeof StreamType.PING }>,
    stream: Duplex,
    until: AbortSignal,
  ): void {
    const session = this.#sessions.get(header.session);
    if (header.type === StreamType.LANE) {
      if (!session) return giveUp(stream); // it has ended while this was on its way
      session.answerLane(stream, until).catch((error) => this.#shutdown.abort(error));
    } else if (session) {
      throw new ProtocolError("a session's number a second time");
    } else if (header.type === StreamType.SESSION) this.#beginSession(header, stream);
    else this.#resumeSession(header, stream);
  }

  #beginSession({ session: number, id }: { session: number; id: string }, stream: Duplex): void {
    const inbound = new InboundSession(this, stream, id, this.#options);
    const serving = this.#options.serve(inbound).catch((error) => {
      this.#shutdown.abort(error); // nothing is served any longer
    }).finally(() => inbound[Symbol.dispose]());
    this.#keepUntilOver(number, inbound, serving);
  }

  /** Goes on with a session of another connection, if it is the same peer's. */
  #resumeSession({ session: number, id }: { session: number; id: string }, stream: Duplex): void {
    const inbound = this.#options.resumable?.find(id, this.connection.publicKey);
    if (!inbound) return refuse(stream, CloseCode.BROKEN_OFF, "there is no such session");
    debug(() => "a session is resumed");
    this.markAuthenticated();
    this.#options.onResumed?.();
    inbound.resume(this, stream);
    this.#keepUntilOver(number, inbound, inbound.over);
  }

  /** Counts a session until it is over, or goes on on another connection. */
  #keepUntilOver(number: number, inbound: InboundSession, over: Promise<void>): void {
    this.#sessions.set(number, inbound);
    this.#sessionBegan();
    const leaving = Promise.race([over, inbound.moved]).finally(() => {
      this.#sessions.delete(number);
      this.#serving.delete(leaving);
      this.#sessionEnded();
    });
    this.#serving.add(leaving);
  }

  #sessionBegan(): void {
    this.#active++;
    this.idleSince = undefined;
    clearTimeout(this.#idleTimer);
  }

  #sessionEnded(): void {
    this.#active--;
    if (this.#active > 0) return;
    this.idleSince = performance.now();
    // A connection is not kept for a stranger.
    if (this.#isAuthenticated) this.#startIdleTimer();
    else this.#shutdown.abort(new IdleTimeout(this.#refusedWith ?? DONE));
  }

  #startIdleTimer(): void {
    clearTimeout(this.#idleTimer);
    const { isDialed, idleTimeoutMs = isDialed ? IDLE_TIMEOUT_MS : ACCEPTED_IDLE_TIMEOUT_MS } =
      this.#options;
    this.#idleTimer = setTimeout(
      () => this.#shutdown.abort(new IdleTimeout(this.#isAuthenticated ? DONE : NO_HEADER)),
      this.#isAuthenticated ? idleTimeoutMs : HEADER_TIMEOUT_MS,
    );
    Deno.unrefTimer(this.#idleTimer);
  }
}

/** A session that the peer has opened, and the lane on which it may go on. */
export class InboundSession implements Disposable {
  readonly session: Session;
  readonly id: string;
  /** Resolves when it is over. */
  readonly over: Promise<void>;
  #owner: MuxConnection;
  #options: MuxConnectionOptions;
  /** Gives up the lane that is being made. */
  #giveUpMaking = new AbortController();
  #authenticated = Promise.withResolvers<void>();
  #isAuthenticated = false;
  #ended = new AbortController();
  #moved = Promise.withResolvers<void>();
  #resumeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(owner: MuxConnection, stream: Duplex, id: string, options: MuxConnectionOptions) {
    this.id = id;
    this.session = new Session(stream, owner.connection.closedError, {
      onHomeLost: (error) => this.#onHomeLost(error),
    });
    this.#owner = owner;
    this.#options = options;
    this.over = new Promise((resolve) => {
      this.#ended.signal.addEventListener("abort", () => resolve());
    });
  }

  /** The connection that it is on. */
  get connection(): Connection {
    return this.#owner.connection;
  }

  /** Resolves when it goes on on another connection. */
  get moved(): Promise<void> {
    return this.#moved.promise;
  }

  /** Waits for the opener to come back, unless it is a stranger. */
  #onHomeLost(error: StreamError): void {
    if (!this.#isAuthenticated || !this.#options.resumable) return this.session.fail(error);
    const { resumeTimeoutMs = KEEP_TIMEOUT_MS } = this.#options;
    debug(() => `a session waits to be resumed: ${error.message}`);
    this.#resumeTimer = setTimeout(() => this.session.fail(error), resumeTimeoutMs);
  }

  /** Goes on on a stream of another connection. */
  resume(owner: MuxConnection, stream: Duplex): void {
    clearTimeout(this.#resumeTimer);
    const moved = this.#moved;
    this.#moved = Promise.withResolvers();
    this.#owner = owner;
    this.session.attachHome(stream, owner.connection.closedError);
    moved.resolve();
  }

  /** Kind and address of the lane in use; undefined if there is none. */
  get lane(): string | undefined {
    const { lane } = this.session;
    return lane && `${lane.kind} ${lane.remote}`;
  }

  /** Aborted when the session is over, or its connection is given up. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** Notes that the connection is given up. @param reason Why. */
  end(reason: unknown): void {
    this.#ended.abort(reason);
  }

  /** Ends the session in the middle, and tells the peer why. */
  abort(closeReason: CloseReason): void {
    const [code, reason] = closeReason;
    this.#owner.refused(closeReason);
    this.session.abort(new StreamError("refused", reason, { code }));
  }

  /** Notes that git-annex has let the peer in. */
  markAuthenticated(): void {
    this.#isAuthenticated = true;
    this.#options.resumable?.add(this);
    this.session.markAuthenticated();
    this.#authenticated.resolve();
    this.#owner.markAuthenticated();
  }

  /**
   * Answers the offer of a lane, and uses the lane if there is one. A lane that is still being made is given
   * up: the peer has lost it already, or it would not begin anew.
   *
   * @throws {ProtocolError} if the peer sends no valid offer.
   */
  async answerLane(stream: Duplex, signal: AbortSignal): Promise<void> {
    this.#giveUpMaking.abort(new StreamError("closed", "the peer begins anew"));
    const giveUp = this.#giveUpMaking = new AbortController();
    const until = AbortSignal.any([signal, this.#ended.signal, giveUp.signal]);
    try {
      const making = this.#makeLane(stream, until);
      this.session.restUntil(making.then(() => {}, () => {})); // the error is handled below
      const lane = await making;
      if (giveUp.signal.aborted) lane?.close();
      else if (lane) this.session.attachLane(lane);
    } catch (error) {
      debug(() => `no lane: ${error}`); // the session stays where it is
      if (error instanceof Error && error.name === "InvalidOffer") {
        throw new ProtocolError(error.message);
      }
    }
  }

  async #makeLane(stream: Duplex, signal: AbortSignal): Promise<Lane | undefined> {
    // A stranger could make this host dial any address. git-annex's answer may be on its way.
    const limit = AbortSignal.any([signal, AbortSignal.timeout(AUTH_TIMEOUT_MS)]);
    const isWanted = await abortable(this.#authenticated.promise, limit)
      .then(() => true, () => false);
    const [{ answerLane }, { laneAddresses }] = await Promise.all([
      import("../lane/negotiation.ts"),
      import("../lane/local_addresses.ts"),
    ]);
    const addresses = laneAddresses(this.connection, this.#options.bind);
    return await answerLane(stream, isWanted, { addresses, signal });
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#resumeTimer);
    this.#ended.abort(new StreamError("closed", "the session is over"));
    this.session.detach();
  }
}

/** Gives up a stream, and nothing else. */
function refuse(stream: Duplex, code: bigint, message: string): void {
  const reason = new StreamError("refused", message, { code });
  stream.readable.cancel(reason).catch(() => {}); // the connection is gone, and the stream with it
  stream.writable.abort(reason).catch(() => {}); // fails for the same reason
}

/** A connection has not been used for a while, or is no longer needed. */
export class IdleTimeout extends Error {
  override readonly name = "IdleTimeout";

  /** @param closeReason How to close it. */
  constructor(readonly closeReason: CloseReason) {
    super("it is idle");
  }
}
