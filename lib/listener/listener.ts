/** Serving: hand each connection to git-annex's socket, and let none harm another. */

import { abortable, delay } from "../async/abort.ts";
import { AuthWatch } from "./auth_watch.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { systemReason } from "../console/failure.ts";
import type { TrafficMeter } from "./traffic.ts";
import type { Connection, Endpoint, Incoming } from "../iroh/endpoint.ts";
import {
  type CloseReason,
  IdleTimeout,
  type InboundSession,
  MuxConnection,
} from "../protocol/peer_connection.ts";
import { Admission, Evicted, type Permit } from "./admission.ts";
import { splice, type SpliceResult } from "../streams/splice.ts";
import { debug } from "../console/stderr.ts";
import { nobodyListens, UnixSocket } from "../platform/unix_socket.ts";
import { MUX_ALPN, ProtocolError } from "../protocol/mux.ts";
import { CLOSE_REASONS, CloseCode } from "../protocol/close_codes.ts";
import { HandshakeError, receiveHandshake } from "../protocol/dumbpipe.ts";
import { Session } from "../protocol/session.ts";

/** From the first packet to the hello. */
const HANDSHAKE_LIMIT_MS = 10_000;
/** From the hello to git-annex's `AUTH-SUCCESS`. */
const AUTH_LIMIT_MS = 30_000;
/** git-annex accepts at once, unless its queue is full. */
const SOCKET_LIMIT_MS = 5_000;
/** For a peer on dumbpipe's protocol to close, after both directions are through. */
const PEER_CLOSE_MS = 1_000;
/** Connections that are told to end do so at once. */
const END_LIMIT_MS = 3_000;
/** Between two tries while git-annex's queue is full. */
const SOCKET_RETRY_MS = 100;
/** At most so often a refusal is told of, lest strangers wash everything else out of the log. */
const REFUSED_REPORT_MS = 1_000;
/** What a peer may send before it is let in, more than the window of one stream, and how often to look. */
const PRE_AUTH_BYTES = 2_000_000, PRE_AUTH_LOOK_MS = 100;
/** Connections that moved less than this in so long are not in the middle of something. */
const QUIET_MS = 1_000;
const QUIET_BYTES = 10_000;

/** What a listener needs. */
export interface ListenerOptions {
  readonly endpoint: Endpoint;
  /** Path of the unix socket on which git-annex listens. */
  readonly socketPath: string;
  readonly maxConnections: number;
  /** The setting. */
  readonly bind: string | undefined;
  /** Told, in a line, what happened to each connection. */
  readonly report: (message: string) => void;
  /** Called when nobody answers on the socket. */
  readonly socketRefused: () => void;
  /** Told of each connection on the mux protocol, when it begins and when it has ended. */
  readonly connected: (connection: MuxConnection) => void;
  readonly disconnected: (connection: MuxConnection) => void;
  /** Where what is moved is counted. */
  readonly meter: TrafficMeter;
}

/** What is to be handed to git-annex. */
interface PendingSession {
  readonly connection: Connection;
  readonly stream: Duplex;
  /** git-annex has let the peer in. */
  markAuthenticated(): void;
  /** Kind and address of the lane by which it goes. */
  lane(): string | undefined;
  /** Watches what comes before the peer is let in. */
  readonly byteLimit: PreAuthByteLimit | undefined;
  /** Ends it, and tells the peer why. */
  abort(closeReason: CloseReason): void;
}

/** A line that has been handed to git-annex. */
interface ActiveSession extends PendingSession {
  readonly socket: UnixSocket;
}

/** Serves the connections of an endpoint. */
export class Listener {
  #options: ListenerOptions;
  #admission: Admission;
  #accepting = true;
  /** Not yet told of. */
  #refused = 0;
  #refusedReported = -Infinity;
  #stopping = new AbortController();
  #active = new Set<ActiveSession>();
  /** Connections that peers have dialed. */
  #kept = new Set<MuxConnection>();
  #served = new Set<Promise<void>>();

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#admission = new Admission(options.maxConnections);
  }

  /** Serves until the endpoint is closed. */
  async run(): Promise<void> {
    for await (const incoming of this.#options.endpoint.incoming()) {
      const serving = this.#admit(incoming).catch((error) => {
        // Whatever goes wrong with one connection ends that one alone.
        this.#options.report(`a connection failed, ${systemReason(error)}`);
      }).finally(() => this.#served.delete(serving));
      this.#served.add(serving);
    }
  }

  /**
   * Takes no more connections, waits for those that are moving data, but not longer than
   * `limitMs`, and ends what is left then.
   */
  async drain(limitMs: number): Promise<void> {
    this.#accepting = false;
    const limit = AbortSignal.timeout(limitMs);
    try {
      for (let before = -Infinity;;) {
        const outgoing = this.#options.meter.movedFromHere();
        if (this.#active.size === 0 && outgoing === undefined) break;
        const moved = this.#moved() + (outgoing ?? 0);
        const isInFlight = [...this.#active].some(({ stream }) =>
          stream instanceof Session && stream.isInFlight
        );
        if (moved - before <= QUIET_BYTES && !isInFlight) break;
        before = moved;
        await delay(QUIET_MS, limit);
      }
    } catch {
      debug(() => "the time for what is in progress is over"); // the only reason for delay to reject
    }
    this.#stopping.abort(new Stopped());
    const ended = Promise.all(this.#served);
    await abortable(ended, AbortSignal.timeout(END_LIMIT_MS)).catch((error) => {
      debug(() => `connections that do not end: ${error}`); // the end of the process ends them
    });
  }

  /** Bytes that the connections which are open have moved, on either side. */
  #moved(): number {
    let sum = 0;
    for (const { connection, socket } of this.#active) {
      // What git-annex has said may all have been read and still be on its way to the peer.
      sum += connection.packetBytes + socket.bytesTaken + socket.bytesWritten;
    }
    return sum;
  }

  async #admit(incoming: Incoming): Promise<void> {
    const source = await incoming.source();
    const permit = await this.#permitFor(source);
    if (!permit || !this.#accepting) {
      permit?.release();
      this.#reportRefused(source);
      return await incoming.refuse();
    }
    await this.#serveIncoming(incoming, source, permit);
  }

  async #permitFor(source: string): Promise<Permit | undefined> {
    try {
      return this.#accepting
        ? await this.#admission.acquire(source, this.#stopping.signal)
        : undefined;
    } catch (error) {
      debug(() => `${source} has waited in vain: ${systemReason(error)}`);
      return undefined;
    }
  }

  #reportRefused(source: string): void {
    this.#refused++;
    const now = performance.now();
    if (now - this.#refusedReported < REFUSED_REPORT_MS) return;
    const why = this.#accepting ? `${this.#admission.inUse} are open` : "this program is stopping";
    this.#options.report(`refused ${this.#refused}, the last from ${source}: ${why}`);
    this.#refused = 0;
    this.#refusedReported = now;
  }

  /** @param permit Is released here. */
  async #serveIncoming(incoming: Incoming, source: string, permit: Permit): Promise<void> {
    const until = AbortSignal.any([this.#stopping.signal, permit.evicted]);
    using deadline = new Deadline(HANDSHAKE_LIMIT_MS, new HandshakeError("no hello in time"));
    const untilHandshake = AbortSignal.any([until, deadline.signal]);
    let connection: Connection;
    try {
      connection = await incoming.accept(untilHandshake);
    } catch (error) {
      permit.release();
      return this.#options.report(`a connection from ${source} failed, ${systemReason(error)}`);
    }
    if (connection.alpn === MUX_ALPN) return await this.#serveMux(connection, source, permit);
    const peer = nameOf(connection);
    using byteLimit = new PreAuthByteLimit(connection);
    try {
      const stream = await connection.accept(untilHandshake);
      await abortable(receiveHandshake(stream), untilHandshake);
      const pending = {
        connection,
        stream,
        markAuthenticated: () => byteLimit[Symbol.dispose](),
        lane: () => undefined,
        byteLimit,
        abort: ([code, reason]: CloseReason) => connection.close(code, reason),
      };
      await this.#handToAnnex(pending, peer, permit, until);
      // dumbpipe waits to be told that its end has arrived, and takes the close for a loss if both come
      // together; it closes by itself.
      const closed = AbortSignal.any([until, AbortSignal.timeout(PEER_CLOSE_MS)]);
      await abortable(connection.closed, closed).catch(() => {}); // it does not close: this side does
      connection.close(CloseCode.DONE, "");
    } catch (error) {
      if (error instanceof StreamError && error.kind === "closed") {
        // It only wanted to know whether it would get through, or got through in another way, too.
        return debug(() => `${peer} has closed`);
      }
      connection.close(...closeReasonFor(error));
      this.#options.report(`${peer} was turned away, ${systemReason(error)}`);
    } finally {
      permit.release();
    }
  }

  /** Serves what the peer opens on a connection that this repository has dialed. */
  async serveDialed(connection: Connection): Promise<void> {
    const [, at = ""] = connection.path.split(" ");
    const serving = this.#serveMux(connection, at.replace(/:\d+$/, ""));
    this.#served.add(serving);
    await serving.finally(() => this.#served.delete(serving));
  }

  /**
   * Serves what a peer wants on the mux protocol, until it wants nothing for a while.
   *
   * @param first A permit for its first session, which is released here; each other one acquires its own.
   */
  async #serveMux(connection: Connection, source: string, first?: Permit): Promise<void> {
    const peer = nameOf(connection), evicted = new AbortController();
    const evict = () => evicted.abort(first?.evicted.reason);
    first?.evicted.addEventListener("abort", evict);
    const isDialed = first === undefined;
    using byteLimit = isDialed ? undefined : new PreAuthByteLimit(connection);
    const mux = new MuxConnection(connection, {
      isDialed,
      onAuthenticated: () => {
        byteLimit?.[Symbol.dispose]();
        first?.evicted.removeEventListener("abort", evict);
      },
      bind: this.#options.bind,
      serve: (session) => {
        const permit = first;
        permit?.evicted.removeEventListener("abort", evict);
        first = undefined;
        return this.#serveSession(session, peer, source, { permit, byteLimit });
      },
    });
    this.#options.connected(mux);
    if (!isDialed) this.#keep(mux);
    try {
      await mux.serve(AbortSignal.any([this.#stopping.signal, evicted.signal]));
    } catch (error) {
      if (error instanceof StreamError) {
        connection.close(CloseCode.DONE, "");
        return debug(() => `${peer} has left, ${error.message}`);
      }
      if (error instanceof IdleTimeout) {
        connection.close(...error.closeReason);
        if (error.closeReason[0] !== CloseCode.BAD_HELLO) {
          return debug(() => `${peer} needs no more`);
        }
      } else connection.close(...closeReasonFor(error));
      if (error instanceof Stopped) return; // of sessions that end with it, each tells
      this.#options.report(`${peer} was turned away, ${systemReason(error)}`);
    } finally {
      this.#kept.delete(mux);
      this.#options.disconnected(mux);
      first?.release();
    }
  }

  /** Connections are kept for as many peers as are served at once; then the one goes that has been idle longest. */
  #keep(mux: MuxConnection): void {
    this.#kept.add(mux);
    if (this.#kept.size <= this.#options.maxConnections) return;
    const idle = [...this.#kept].filter(({ isAuthenticated, idleSince }) =>
      isAuthenticated && idleSince !== undefined
    );
    idle.sort((a, b) => a.idleSince! - b.idleSince!)[0]?.closeGracefully();
  }

  async #serveSession(
    session: InboundSession,
    peer: string,
    source: string,
    { permit: first, byteLimit }: {
      permit: Permit | undefined;
      byteLimit: PreAuthByteLimit | undefined;
    },
  ): Promise<void> {
    const permit = first ?? await this.#permitFor(source);
    if (!permit) {
      this.#reportRefused(source);
      return session.abort(closeReasonFor(new Busy()));
    }
    const { connection, session: stream } = session;
    const pending = {
      connection,
      stream,
      markAuthenticated: () => session.markAuthenticated(),
      lane: () => session.lane,
      byteLimit,
      abort: (closeReason: CloseReason) => session.abort(closeReason),
    };
    try {
      const until = AbortSignal.any([this.#stopping.signal, permit.evicted, session.ended]);
      await this.#handToAnnex(pending, peer, permit, until);
    } catch (error) {
      session.abort(closeReasonFor(error));
      this.#options.report(`${peer} was turned away, ${systemReason(error)}`);
    } finally {
      permit.release();
    }
  }

  /** Hands a line to git-annex, until both directions have ended. */
  async #handToAnnex(
    pending: PendingSession,
    peer: string,
    permit: Permit,
    until: AbortSignal,
  ): Promise<void> {
    const started = performance.now();
    this.#options.report(`${peer} connected`);
    using unauthenticated = new Deadline(AUTH_LIMIT_MS, new NotAuthenticated());
    const watch = new AuthWatch(() => {
      unauthenticated[Symbol.dispose]();
      permit.authenticated();
      pending.markAuthenticated();
    });
    using socket = await this.#connectSocket((chunk) => watch.see(chunk));
    pending.byteLimit?.allow(() => socket.bytesWritten);
    using _live = this.#options.meter.begin({
      key: pending.connection.publicKey.toHex(),
      isIncoming: true,
      byteCounts: () => ({ sent: socket.bytesTaken, received: socket.bytesWritten }),
      connection: pending.connection,
      lane: () => pending.lane(),
    });
    const active = { ...pending, socket };
    this.#active.add(active);
    using _ = { [Symbol.dispose]: () => void this.#active.delete(active) };
    const signal = AbortSignal.any([until, unauthenticated.signal]);
    // Before anything that gives up the stream can run, so that the peer learns the reason.
    const abort = () => pending.abort(closeReasonFor(signal.reason));
    signal.addEventListener("abort", abort);
    using _listening = { // a listener would keep all this alive as long as the program runs
      [Symbol.dispose]: () => signal.removeEventListener("abort", abort),
    };
    const result = await splice(pending.stream, socket, signal);
    signal.throwIfAborted();
    if (isLost(result)) pending.abort([CloseCode.LANE_LOST, "the lane is lost"]);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const bytes = `${socket.bytesWritten} bytes in, ${socket.bytesRead} out`;
    this.#options.report(`${peer} ${outcomeText(result)} after ${seconds} s, ${bytes}`);
  }

  async #connectSocket(see: (chunk: Uint8Array) => void): Promise<UnixSocket> {
    const { socketPath, socketRefused } = this.#options;
    const deadline = performance.now() + SOCKET_LIMIT_MS;
    for (;;) {
      try {
        // Done at once, or refused: never waiting for git-annex.
        return await UnixSocket.connect(socketPath, see);
      } catch (error) {
        if (!(error instanceof Deno.errors.WouldBlock)) {
          if (nobodyListens(error)) socketRefused();
          throw new NoService(`git-annex's socket does not answer, ${systemReason(error)}`);
        }
      }
      if (performance.now() > deadline) throw new Busy(); // its queue is full
      await delay(SOCKET_RETRY_MS, this.#stopping.signal);
    }
  }
}

/** The listener stops. */
class Stopped extends Error {
  constructor() {
    super("this program was told to stop");
  }
}

/** git-annex did not let the peer in. */
class NotAuthenticated extends Error {
  constructor() {
    super(`it did not authenticate within ${AUTH_LIMIT_MS / 1000} s`);
  }
}

/** git-annex has enough to do. */
class Busy extends Error {
  constructor() {
    super("git-annex takes no more connections now");
  }
}

/** git-annex cannot be asked. */
class NoService extends Error {}

/** What to tell a peer that is turned away. */
function closeReasonFor(error: unknown): CloseReason {
  const code = closeCode(error);
  return [code, error instanceof HandshakeError ? "no hello" : CLOSE_REASONS.get(code)!];
}

function closeCode(error: unknown): bigint {
  if (error instanceof Evicted || error instanceof Busy) return CloseCode.BUSY;
  if (error instanceof NoService) return CloseCode.NO_SERVICE;
  if (error instanceof ProtocolError || error instanceof HandshakeError) return CloseCode.BAD_HELLO;
  if (error instanceof NotAuthenticated) return CloseCode.NOT_AUTHENTICATED;
  return CloseCode.STOPPED;
}

/** A peer, for people. */
function nameOf({ publicKey, path }: Connection): string {
  return `${publicKey.toHex().slice(0, 10)} (${path})`;
}

/** Whether something is missing. On dumbpipe's protocol there is then no connection any more. */
function isLost({ aToB, bToA }: SpliceResult): boolean {
  return [aToB, bToA].some(({ error }) => error instanceof StreamError && error.kind === "lost");
}

/** How a connection ended, for the log: the peer going away in mid-stream is worth a word. */
function outcomeText(result: SpliceResult): string {
  const errors = [result.aToB.error, result.bToA.error].filter((error) => error !== undefined);
  const gone = errors.find((error) => !(error instanceof StreamError && error.kind === "closed"));
  return gone === undefined ? "was served" : `was lost (${systemReason(gone)})`;
}

/**
 * Ends the connection of a peer that sends more, before git-annex has let it in, than git-annex takes:
 * iroh keeps what nobody reads, 1.25 MB for each of 200 streams. Dispose of it then.
 */
class PreAuthByteLimit implements Disposable {
  #timer: ReturnType<typeof setInterval>;
  #allowances: (() => number)[] = [];

  constructor(connection: Connection) {
    this.#timer = setInterval(() => {
      const allowed = this.#allowances.reduce((sum, bytes) => sum + bytes(), 0);
      if (connection.packetBytesReceived - allowed > PRE_AUTH_BYTES) {
        connection.close(CloseCode.BAD_HELLO, CLOSE_REASONS.get(CloseCode.BAD_HELLO)!);
      }
    }, PRE_AUTH_LOOK_MS);
    connection.closed.then(() => this[Symbol.dispose]());
  }

  /** What git-annex has taken is not kept by iroh. @param bytes How much that is. */
  allow(bytes: () => number): void {
    this.#allowances.push(bytes);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#allowances = [];
  }
}

/** A signal that aborts after a time, with a reason that says what took too long, unless disposed of. */
class Deadline implements Disposable {
  #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout>;

  constructor(milliseconds: number, reason: Error) {
    this.#timer = setTimeout(() => this.#controller.abort(reason), milliseconds);
    Deno.unrefTimer(this.#timer);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
