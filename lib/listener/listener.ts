/**
 * Serves the peers that reach this repository's endpoint. Each connection is accepted, admitted and
 * served by itself, so that no peer can harm another. At its end the listener drains.
 */

import { ResumableSessions } from "../protocol/resumable_sessions.ts";
import { abortable, delay, LinkedSignal } from "../async/abort.ts";
import { StreamError } from "../streams/duplex.ts";
import { systemReason } from "../console/failure.ts";
import type { Connection } from "../iroh/connection.ts";
import type { Incoming } from "../iroh/endpoint.ts";
import { describePath } from "../iroh/path.ts";
import { IdleTimeout } from "../protocol/connection_use.ts";
import type { InboundSession } from "../protocol/inbound_session.ts";
import { MuxConnection } from "../protocol/peer_connection.ts";
import { garbageCollector } from "../platform/garbage.ts";
import { networkOf, splitSocketAddress } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";
import { MUX_ALPN } from "../protocol/mux.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import { receiveHandshake } from "../protocol/dumbpipe.ts";
import { shortKey } from "../repository/ticket.ts";
import { Admission, type Newcomer, type Permit } from "./admission.ts";
import { AnnexSession, type AnnexSessionOptions } from "./annex_session.ts";
import type { AnnexSocketLimits } from "./annex_socket.ts";
import { Busy, closeReasonFor, Stopped } from "./close_reasons.ts";
import { HandshakeLimit } from "./handshake_limit.ts";
import type { PairingServer } from "./pairing_server.ts";
import { dumbpipeSession, muxSession, type PeerSession } from "./peer_session.ts";
import { type SessionLimits, StrangerLimits, type StrangerLimitValues } from "./stranger_limits.ts";
import { StrangerMemory, type StrangerMemoryLimits } from "./stranger_memory.ts";
import type { ConnectionOutcome } from "./presence.ts";
import { StrangerLog } from "./stranger_log.ts";

/** Timeout for connections to end once they were told to; they do so at once, unless there is a bug. */
const END_TIMEOUT_MS = 3_000;
/** Timeout for the answer to a close when the listener stops: many round trips of a slow relay. */
const CLOSE_ANSWER_TIMEOUT_MS = 1_000;
/** Interval in which the open connections together move at most `QUIET_BYTES` if no transfer is going on. */
const QUIET_INTERVAL_MS = 1_000, QUIET_BYTES = 10_000;

/**
 * Number of connections after whose end garbage is collected. iroh keeps about 50 KB for each until then, of which
 * V8 does not know, and strangers may make hundreds a second.
 */
const CONNECTIONS_BEFORE_COLLECTION = 200;

/** Limits of a listener. Tests pass smaller ones. */
export interface ListenerLimits
  extends StrangerLimitValues, StrangerMemoryLimits, AnnexSocketLimits {
  readonly peerCloseTimeoutMs: number;
  readonly quietIntervalMs: number;
}

/** What a listener needs. */
export interface ListenerOptions
  extends Omit<AnnexSessionOptions, "onAuthenticated" | "reportStranger"> {
  readonly endpoint: { incoming(): AsyncIterable<Incoming> };
  readonly maxConnections: number;
  /** The setting `bind`. */
  readonly bind: string | undefined;
  /** Answers joiners; none are answered by default. */
  readonly pairing?: Pick<PairingServer, "serve">;
  /** Called when a connection on the mux protocol begins, and when it has ended. */
  readonly connected: (connection: MuxConnection) => void;
  readonly disconnected: (connection: MuxConnection, end: ConnectionOutcome) => void;
  readonly limits?: Partial<ListenerLimits>;
}

/** Serves the connections of an endpoint: accept, admit, serve, drain. */
export class Listener {
  #options: ListenerOptions;
  #admission: Admission;
  #handshakes = new HandshakeLimit();
  #strangerMemory: StrangerMemory;
  #connectionsEnded = 0;
  #strangerLog: StrangerLog;
  #state: "accepting" | "draining" = "accepting";
  #stopping = new AbortController();
  /** Sessions that are connected to git-annex's socket. */
  #sessions = new Set<AnnexSession>();
  /** Connections on the mux protocol that peers have dialed. */
  #kept = new Set<MuxConnection>();
  /** One for each connection that is being served. */
  #tasks = new Set<Promise<void>>();
  #resumable = new ResumableSessions<InboundSession>();

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#admission = new Admission(options.maxConnections);
    this.#strangerMemory = new StrangerMemory(options.limits);
    this.#strangerLog = new StrangerLog(options.report);
  }

  get #isAccepting(): boolean {
    return this.#state === "accepting";
  }

  /** Accepts connections until the endpoint is closed. */
  async run(): Promise<void> {
    for await (const incoming of this.#options.endpoint.incoming()) {
      this.#track(this.#serveIncoming(incoming)).catch((error) => {
        // A failure ends one connection and no other.
        this.#strangerLog.add(`a connection failed, ${systemReason(error)}`);
      });
    }
  }

  /** Serves the sessions that the peer opens on a connection that this repository has dialed. */
  async serveDialed(connection: Connection): Promise<void> {
    const source = sourceOf(connection);
    using limits = new StrangerLimits(undefined, this.#options.limits);
    const serving = this.#serveMux(connection, source, { limits, isDialed: true });
    await this.#track(serving.then(() => this.#untilPeerKnows(connection)));
  }

  /** If this program stops, waits until the peer of a connection that was closed knows it, but not for long. */
  async #untilPeerKnows(connection: Connection): Promise<void> {
    if (!this.#stopping.signal.aborted) return;
    const limit = AbortSignal.timeout(CLOSE_ANSWER_TIMEOUT_MS);
    await connection.closeAnswered(limit).catch(() =>
      debug(() => "a peer does not answer a close")
    );
  }

  async #track(task: Promise<void>): Promise<void> {
    this.#tasks.add(task);
    try {
      await task;
    } finally {
      this.#tasks.delete(task);
    }
  }

  async #serveIncoming(incoming: Incoming): Promise<void> {
    const { name: source, dialer, isProven } = await incoming.source();
    const isPermitted = this.#handshakes.permits(dialer);
    // Anyone can send packets that seem to come from elsewhere, and would take all permits, or have a peer refused.
    if (!isProven && (this.#admission.isCrowded || !isPermitted)) {
      return await incoming.demandProof();
    }
    if (!isPermitted) {
      this.#strangerLog.add(`${source} was not answered, too many dials from there are in vain`);
      return await incoming.ignore(); // it may share its address with those, and gets in a little later
    }
    const permit = await this.#admit({ source, isKnown: false }, "connection");
    if (!permit) return await incoming.refuse();
    const handshake = this.#handshakes.begin(dialer);
    using limits = new StrangerLimits(permit, this.#options.limits, () => handshake.letIn());
    let connection: Connection;
    using exceeded = new LinkedSignal([this.#stopping.signal, limits.exceeded]);
    try {
      connection = await incoming.accept(exceeded.signal, () => handshake.over());
    } catch (error) {
      return this.#strangerLog.add(`a connection from ${source} failed, ${systemReason(error)}`);
    }
    using _ended = { [Symbol.dispose]: () => this.#onConnectionEnded() };
    if (permit.isSpare && !this.#resumable.hasAnyOf(connection.publicKey)) {
      connection.close(...closeReasonFor(new Busy()));
      return this.#refuse(source);
    }
    limits.limitBytes(connection, this.#strangerMemory, (reason) => {
      this.#strangerLog.add(`${nameOf(connection)} was turned away, ${reason.message}`);
    });
    if (connection.alpn === MUX_ALPN) {
      limits.handshakeDone();
      await this.#serveMux(connection, source, { limits, isDialed: false });
    } else await this.#serveDumbpipe(connection, source, limits);
    await this.#untilPeerKnows(connection);
  }

  #onConnectionEnded(): void {
    this.#connectionsEnded++;
    if (this.#connectionsEnded % CONNECTIONS_BEFORE_COLLECTION === 0) garbageCollector()?.();
  }

  /**
   * Takes a permit. If there is none, a connection gets a spare one while sessions wait to be resumed: a resumed
   * session has a permit already.
   *
   * @returns Undefined if there is none; the refusal is in the log.
   */
  async #admit(newcomer: Newcomer, use: "connection" | "session"): Promise<Permit | undefined> {
    let permit: Permit | undefined;
    const { signal } = this.#stopping;
    try {
      if (this.#isAccepting) permit = await this.#admission.acquire(newcomer, signal);
    } catch (error) {
      debug(() => `${newcomer.source} waited for a permit in vain: ${systemReason(error)}`);
    }
    if (use === "connection") permit ??= this.#admission.acquireSpare(this.#resumable.awaited);
    if (permit && this.#isAccepting) return permit;
    permit?.release();
    this.#refuse(newcomer.source);
    return undefined;
  }

  /** Notes in the log that a peer was refused. */
  #refuse(source: string): void {
    const inUse = `${this.#admission.inUse} permits are in use`;
    this.#strangerLog.add(
      `${source} was refused, ${this.#isAccepting ? inUse : "this program is stopping"}`,
    );
  }

  /** Serves the only session of a connection on dumbpipe's protocol. */
  async #serveDumbpipe(
    connection: Connection,
    source: string,
    limits: StrangerLimits,
  ): Promise<void> {
    const peer = nameOf(connection);
    using exceeded = new LinkedSignal([this.#stopping.signal, limits.exceeded]);
    try {
      const stream = await connection.accept(exceeded.signal);
      await abortable(receiveHandshake(stream), exceeded.signal);
      limits.handshakeDone();
      const session = dumbpipeSession(connection, stream, peer, this.#options.limits);
      await this.#serveSession(session, source, limits);
    } catch (error) {
      if (error instanceof StreamError && error.kind === "closed") {
        // The dialer only tested this route, or another route was faster.
        return debug(() => `${peer} has closed`);
      }
      connection.close(...closeReasonFor(error));
      this.#strangerLog.add(`${peer} was turned away, ${systemReason(error)}`);
    }
  }

  /** Serves the sessions of a connection on the mux protocol, until it has been idle for a while. */
  async #serveMux(
    connection: Connection,
    source: string,
    { limits, isDialed }: { limits: StrangerLimits; isDialed: boolean },
  ): Promise<void> {
    const peer = nameOf(connection);
    const { pairing } = this.#options;
    const mux = new MuxConnection(connection, {
      isDialed,
      bind: this.#options.bind,
      resumable: this.#resumable,
      onAuthenticated: () => limits.markAuthenticated(),
      pair: pairing && ((...request) => pairing.serve(...request)),
      serve: (session) => this.#serveSession(muxSession(session, peer), source, limits),
    });
    this.#options.connected(mux);
    if (!isDialed) this.#keep(mux);
    let outcome: ConnectionOutcome = "broken off";
    try {
      using exceeded = new LinkedSignal([this.#stopping.signal, limits.exceeded]);
      await mux.serve(exceeded.signal);
    } catch (error) {
      const isByPeer = error instanceof StreamError && error.kind === "closed";
      if (isByPeer || error instanceof IdleTimeout) outcome = "idle";
      this.#closeMux(mux, peer, error);
    } finally {
      this.#kept.delete(mux);
      this.#options.disconnected(mux, outcome);
    }
  }

  /** @param error Why {@linkcode MuxConnection.serve} has ended. */
  #closeMux({ connection, isAuthenticated }: MuxConnection, peer: string, error: unknown): void {
    if (error instanceof StreamError) {
      connection.close(CloseCode.DONE, "");
      return debug(() => `${peer} has left, ${error.message}`);
    }
    const closeReason = error instanceof IdleTimeout ? error.closeReason : closeReasonFor(error);
    connection.close(...closeReason);
    if (error instanceof IdleTimeout && closeReason[0] !== CloseCode.BAD_HELLO) {
      return debug(() => `${peer} is idle`);
    }
    if (error instanceof Stopped) return; // each session has reported it
    this.#reporter(isAuthenticated)(`${peer} was turned away, ${systemReason(error)}`);
  }

  /**
   * Keeps a connection for later sessions. If more than `max-connections` are kept, the one that has been
   * idle longest is closed.
   */
  #keep(mux: MuxConnection): void {
    this.#kept.add(mux);
    if (this.#kept.size <= this.#options.maxConnections) return;
    const idle = [...this.#kept].filter(({ isAuthenticated, idleSince }) =>
      isAuthenticated && idleSince !== undefined
    );
    idle.sort((a, b) => a.idleSince! - b.idleSince!)[0]?.closeGracefully();
  }

  /** Serves a session to its end. It takes over the connection's permit, or else takes its own. */
  async #serveSession(session: PeerSession, source: string, limits: StrangerLimits): Promise<void> {
    const permit = await this.#permitFor(source, limits);
    if (!permit) return session.abort(closeReasonFor(new Busy()));
    using sessionLimits = limits.beginSession(permit);
    const { exceeded } = sessionLimits;
    using until = new LinkedSignal([this.#stopping.signal, exceeded, session.ended]);
    const { signal } = until;
    try {
      await this.#handToAnnex(session, sessionLimits, signal);
      await session.finish(signal);
    } catch (error) {
      session.abort(closeReasonFor(error));
      const report = this.#reporter(sessionLimits.isAuthenticated);
      report(`${session.peer} was turned away, ${systemReason(error)}`);
    }
  }

  /** Returns the connection's permit if it can be used for a session, or another one; undefined if there is none. */
  async #permitFor(source: string, limits: StrangerLimits): Promise<Permit | undefined> {
    const permit = limits.takePermit();
    if (permit && !permit.isSpare) return permit;
    permit?.release();
    return await this.#admit({ source, isKnown: limits.isAuthenticated }, "session");
  }

  /** Returns the function that reports what concerns a peer. */
  #reporter(isAuthenticated: boolean): (message: string) => void {
    return isAuthenticated ? this.#options.report : (message) => this.#strangerLog.add(message);
  }

  /** Joins a session with git-annex until both directions have ended. */
  async #handToAnnex(
    session: PeerSession,
    limits: SessionLimits,
    signal: AbortSignal,
  ): Promise<void> {
    const onAuthenticated = () => {
      limits.markAuthenticated();
      session.markAuthenticated();
    };
    const reportStranger = this.#reporter(false);
    const options = { ...this.#options, onAuthenticated, reportStranger };
    using annexSession = await AnnexSession.connect(session, options, signal);
    using _taken = limits.countOut(() => annexSession.bytesTaken);
    this.#sessions.add(annexSession);
    try {
      await annexSession.serve(signal);
    } finally {
      this.#sessions.delete(annexSession);
    }
  }

  /**
   * Refuses new connections and sessions, and waits at most `limitMs` for those that move data. Then ends
   * what is left.
   */
  async drain(limitMs: number): Promise<void> {
    this.#state = "draining";
    await this.#untilQuiet(AbortSignal.timeout(limitMs)).catch(() =>
      debug(() => "sessions still move data at the end of the drain")
    );
    this.#stopping.abort(new Stopped());
    await abortable(Promise.allSettled(this.#tasks), AbortSignal.timeout(END_TIMEOUT_MS)).catch(
      (error) => {
        debug(() => `connections that do not end: ${error}`); // they end with the process
      },
    );
    this.#strangerLog[Symbol.dispose]();
  }

  async #untilQuiet(signal: AbortSignal): Promise<void> {
    const { quietIntervalMs = QUIET_INTERVAL_MS } = this.#options.limits ?? {};
    for (let before = -Infinity;;) {
      const outgoing = this.#options.meter.movedByOutgoing();
      if (this.#sessions.size === 0 && outgoing === undefined) return;
      const sessions = [...this.#sessions];
      const moved = sessions.reduce((sum, { bytesMoved }) => sum + bytesMoved, outgoing ?? 0);
      if (moved - before <= QUIET_BYTES && !sessions.some(({ isInFlight }) => isInFlight)) return;
      before = moved;
      await delay(quietIntervalMs, signal);
    }
  }
}

/** Returns where a peer is that was dialed: an IPv4 address, a network of IPv6, or a relay. */
function sourceOf({ path }: Connection): string {
  if (path?.kind !== "direct") return path?.address ?? "";
  return networkOf(splitSocketAddress(path.address).host);
}

/** Returns the name of a peer in the log. */
function nameOf({ publicKey, path }: Connection): string {
  return `${shortKey(publicKey)} (${describePath(path)})`;
}
