/** Serving: hand each connection to git-annex's socket, and let none harm another. */

import { abortable, delay } from "../async/abort.ts";
import { AuthWatch } from "./auth_watch.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { systemReason } from "../console/failure.ts";
import type { Traffic } from "./traffic.ts";
import type { Connection, Endpoint, Incoming } from "../iroh/endpoint.ts";
import {
  type CloseReason,
  IdleTimeout,
  type InboundSession,
  MuxConnection,
} from "../protocol/peer_connection.ts";
import { GivenAway, type Place, Places } from "./admission.ts";
import { splice, type SpliceEnd } from "../streams/splice.ts";
import { debug } from "../console/stderr.ts";
import { nobodyListens, UnixSocket } from "../platform/unix_socket.ts";
import { MUX_ALPN, ProtocolError } from "../protocol/mux.ts";
import { CLOSE_REASONS, CloseCode } from "../protocol/close_codes.ts";
import { HandshakeError, receiveHandshake } from "../protocol/dumbpipe.ts";
import { Session } from "../protocol/session.ts";

/** From the first packet to the hello. */
const HELLO_LIMIT_MS = 10_000;
/** From the hello to git-annex's `AUTH-SUCCESS`. */
const AUTH_LIMIT_MS = 30_000;
/** git-annex accepts at once, unless its queue is full. */
const SOCKET_LIMIT_MS = 5_000;
/** For a peer on the plain wire to close, after both directions are through. */
const PEER_CLOSE_MS = 1_000;
/** Connections that are told to end do so at once. */
const END_LIMIT_MS = 3_000;
/** Between two tries while git-annex's queue is full. */
const SOCKET_RETRY_MS = 100;
/** At most so often a refusal is told of, lest strangers wash everything else out of the log. */
const REFUSED_REPORT_MS = 1_000;
/** What a peer may send before it is let in, more than the window of one stream, and how often to look. */
const MOST_STRANGER_BYTES = 2_000_000, GREED_LOOK_MS = 100;
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
  /** Told of each connection on our own wire, when it begins and when it has ended. */
  readonly connected: (connection: MuxConnection) => void;
  readonly disconnected: (connection: MuxConnection) => void;
  /** Where what is moved is counted. */
  readonly traffic: Traffic;
}

/** What is to be handed to git-annex. */
interface Line {
  readonly connection: Connection;
  readonly stream: Duplex;
  /** git-annex has let the peer in. */
  letIn(): void;
  /** Kind and address of the lane by which it goes. */
  lane(): string | undefined;
  /** Watches what comes before the peer is let in. */
  readonly greed: GreedWatch | undefined;
  /** Ends it, and tells the peer why. */
  end(closing: CloseReason): void;
}

/** A line that has been handed to git-annex. */
interface Relayed extends Line {
  readonly socket: UnixSocket;
}

/** Serves the connections of an endpoint. */
export class Listener {
  #options: ListenerOptions;
  #places: Places;
  #accepting = true;
  /** Not yet told of. */
  #refused = 0;
  #refusedReported = -Infinity;
  #end = new AbortController();
  #relayed = new Set<Relayed>();
  /** Connections that peers have dialed. */
  #kept = new Set<MuxConnection>();
  #served = new Set<Promise<void>>();

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#places = new Places(options.maxConnections);
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
        const outgoing = this.#options.traffic.movedFromHere();
        if (this.#relayed.size === 0 && outgoing === undefined) break;
        const moved = this.#moved() + (outgoing ?? 0);
        const isInFlight = [...this.#relayed].some(({ stream }) =>
          stream instanceof Session && stream.isInFlight
        );
        if (moved - before <= QUIET_BYTES && !isInFlight) break;
        before = moved;
        await delay(QUIET_MS, limit);
      }
    } catch {
      debug(() => "the time for what is in progress is over"); // the only reason for delay to reject
    }
    this.#end.abort(new Stopped());
    const ended = Promise.all(this.#served);
    await abortable(ended, AbortSignal.timeout(END_LIMIT_MS)).catch((error) => {
      debug(() => `connections that do not end: ${error}`); // the end of the process ends them
    });
  }

  /** Bytes that the connections which are open have moved, on either side. */
  #moved(): number {
    let sum = 0;
    for (const { connection, socket } of this.#relayed) {
      // What git-annex has said may all have been read and still be on its way to the peer.
      sum += connection.packetBytes + socket.bytesTaken + socket.bytesWritten;
    }
    return sum;
  }

  async #admit(incoming: Incoming): Promise<void> {
    const source = await incoming.source();
    const place = await this.#placeFor(source);
    if (!place || !this.#accepting) {
      place?.leave();
      this.#reportRefused(source);
      return await incoming.refuse();
    }
    await this.#serve(incoming, source, place);
  }

  async #placeFor(source: string): Promise<Place | undefined> {
    try {
      return this.#accepting ? await this.#places.enter(source, this.#end.signal) : undefined;
    } catch (error) {
      debug(() => `${source} has waited in vain: ${systemReason(error)}`);
      return undefined;
    }
  }

  #reportRefused(source: string): void {
    this.#refused++;
    const now = performance.now();
    if (now - this.#refusedReported < REFUSED_REPORT_MS) return;
    const why = this.#accepting ? `${this.#places.taken} are open` : "this program is stopping";
    this.#options.report(`refused ${this.#refused}, the last from ${source}: ${why}`);
    this.#refused = 0;
    this.#refusedReported = now;
  }

  /** @param place Is left here. */
  async #serve(incoming: Incoming, source: string, place: Place): Promise<void> {
    const until = AbortSignal.any([this.#end.signal, place.givenAway]);
    using slow = new TimeLimit(HELLO_LIMIT_MS, new HandshakeError("no hello in time"));
    const hello = AbortSignal.any([until, slow.signal]);
    let connection: Connection;
    try {
      connection = await incoming.accept(hello);
    } catch (error) {
      place.leave();
      return this.#options.report(`a connection from ${source} failed, ${systemReason(error)}`);
    }
    if (connection.alpn === MUX_ALPN) return await this.#serveOwn(connection, source, place);
    const peer = nameOf(connection);
    using greed = new GreedWatch(connection);
    try {
      const stream = await connection.accept(hello);
      await abortable(receiveHandshake(stream), hello);
      const line = {
        connection,
        stream,
        letIn: () => greed[Symbol.dispose](),
        lane: () => undefined,
        greed,
        end: ([code, reason]: CloseReason) => connection.close(code, reason),
      };
      await this.#relay(line, peer, place, until);
      // dumbpipe waits to be told that its end has arrived, and takes the close for a loss if both come
      // together; it closes by itself.
      const closed = AbortSignal.any([until, AbortSignal.timeout(PEER_CLOSE_MS)]);
      await abortable(connection.ended, closed).catch(() => {}); // it does not close: this side does
      connection.close(CloseCode.DONE, "");
    } catch (error) {
      if (error instanceof StreamError && error.kind === "closed") {
        // It only wanted to know whether it would get through, or got through in another way, too.
        return debug(() => `${peer} has closed`);
      }
      connection.close(...closing(error));
      this.#options.report(`${peer} was turned away, ${systemReason(error)}`);
    } finally {
      place.leave();
    }
  }

  /** Serves what the peer opens on a connection that this repository has dialed. */
  async serveDialed(connection: Connection): Promise<void> {
    const [, at = ""] = connection.path.split(" ");
    const serving = this.#serveOwn(connection, at.replace(/:\d+$/, ""));
    this.#served.add(serving);
    await serving.finally(() => this.#served.delete(serving));
  }

  /**
   * Serves what a peer wants on our own wire, until it wants nothing for a while.
   *
   * @param first A place for its first session, which is left here; each other one takes a place of its own.
   */
  async #serveOwn(connection: Connection, source: string, first?: Place): Promise<void> {
    const peer = nameOf(connection), givenAway = new AbortController();
    const giveAway = () => givenAway.abort(first?.givenAway.reason);
    first?.givenAway.addEventListener("abort", giveAway);
    const isDialed = first === undefined;
    using greed = isDialed ? undefined : new GreedWatch(connection);
    const own = new MuxConnection(connection, {
      isDialed,
      onAuthenticated: () => {
        greed?.[Symbol.dispose]();
        first?.givenAway.removeEventListener("abort", giveAway);
      },
      bind: this.#options.bind,
      serve: (session) => {
        const place = first;
        place?.givenAway.removeEventListener("abort", giveAway);
        first = undefined;
        return this.#serveSession(session, peer, source, { place, greed });
      },
    });
    this.#options.connected(own);
    if (!isDialed) this.#keep(own);
    try {
      await own.serve(AbortSignal.any([this.#end.signal, givenAway.signal]));
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
      } else connection.close(...closing(error));
      if (error instanceof Stopped) return; // of sessions that end with it, each tells
      this.#options.report(`${peer} was turned away, ${systemReason(error)}`);
    } finally {
      this.#kept.delete(own);
      this.#options.disconnected(own);
      first?.leave();
    }
  }

  /** Connections are kept for as many peers as are served at once; then the one goes that has been idle longest. */
  #keep(own: MuxConnection): void {
    this.#kept.add(own);
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
    { place: first, greed }: { place: Place | undefined; greed: GreedWatch | undefined },
  ): Promise<void> {
    const place = first ?? await this.#placeFor(source);
    if (!place) {
      this.#reportRefused(source);
      return session.abort(closing(new Busy()));
    }
    const { connection, session: stream } = session;
    const line = {
      connection,
      stream,
      letIn: () => session.markAuthenticated(),
      lane: () => session.lane,
      greed,
      end: (closing: CloseReason) => session.abort(closing),
    };
    try {
      const until = AbortSignal.any([this.#end.signal, place.givenAway, session.ended]);
      await this.#relay(line, peer, place, until);
    } catch (error) {
      session.abort(closing(error));
      this.#options.report(`${peer} was turned away, ${systemReason(error)}`);
    } finally {
      place.leave();
    }
  }

  /** Hands a line to git-annex, until both directions have ended. */
  async #relay(line: Line, peer: string, place: Place, until: AbortSignal): Promise<void> {
    const started = performance.now();
    this.#options.report(`${peer} connected`);
    using unauthenticated = new TimeLimit(AUTH_LIMIT_MS, new NotAuthenticated());
    const watch = new AuthWatch(() => {
      unauthenticated[Symbol.dispose]();
      place.authenticated();
      line.letIn();
    });
    using socket = await this.#connectSocket((chunk) => watch.see(chunk));
    line.greed?.except(() => socket.bytesWritten);
    using _live = this.#options.traffic.begin({
      key: line.connection.publicKey.toHex(),
      isIncoming: true,
      amount: () => ({ sent: socket.bytesTaken, received: socket.bytesWritten }),
      connection: line.connection,
      lane: () => line.lane(),
    });
    const relayed = { ...line, socket };
    this.#relayed.add(relayed);
    using _ = { [Symbol.dispose]: () => void this.#relayed.delete(relayed) };
    const signal = AbortSignal.any([until, unauthenticated.signal]);
    // Before anything that gives up the stream can run, so that the peer learns the reason.
    const turnAway = () => line.end(closing(signal.reason));
    signal.addEventListener("abort", turnAway);
    using _listening = { // a listener would keep all this alive as long as the program runs
      [Symbol.dispose]: () => signal.removeEventListener("abort", turnAway),
    };
    const end = await splice(line.stream, socket, signal);
    signal.throwIfAborted();
    if (isLost(end)) line.end([CloseCode.LANE_LOST, "the lane is lost"]);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const bytes = `${socket.bytesWritten} bytes in, ${socket.bytesRead} out`;
    this.#options.report(`${peer} ${how(end)} after ${seconds} s, ${bytes}`);
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
      await delay(SOCKET_RETRY_MS, this.#end.signal);
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
function closing(error: unknown): CloseReason {
  const code = closeCode(error);
  return [code, error instanceof HandshakeError ? "no hello" : CLOSE_REASONS.get(code)!];
}

function closeCode(error: unknown): bigint {
  if (error instanceof GivenAway || error instanceof Busy) return CloseCode.BUSY;
  if (error instanceof NoService) return CloseCode.NO_SERVICE;
  if (error instanceof ProtocolError || error instanceof HandshakeError) return CloseCode.BAD_HELLO;
  if (error instanceof NotAuthenticated) return CloseCode.NOT_AUTHENTICATED;
  return CloseCode.STOPPED;
}

/** A peer, for people. */
function nameOf({ publicKey, path }: Connection): string {
  return `${publicKey.toHex().slice(0, 10)} (${path})`;
}

/** Whether something is missing. On the plain wire there is then no connection any more. */
function isLost({ forth, back }: SpliceEnd): boolean {
  return [forth, back].some(({ error }) => error instanceof StreamError && error.kind === "lost");
}

/** How a connection ended, for the log: the peer going away in mid-stream is worth a word. */
function how(end: SpliceEnd): string {
  const errors = [end.forth.error, end.back.error].filter((error) => error !== undefined);
  const gone = errors.find((error) => !(error instanceof StreamError && error.kind === "closed"));
  return gone === undefined ? "was served" : `was lost (${systemReason(gone)})`;
}

/**
 * Ends the connection of a peer that sends more, before git-annex has let it in, than git-annex takes:
 * iroh keeps what nobody reads, 1.25 MB for each of 200 streams. Dispose of it then.
 */
class GreedWatch implements Disposable {
  #timer: ReturnType<typeof setInterval>;
  #passedOn: (() => number)[] = [];

  constructor(connection: Connection) {
    this.#timer = setInterval(() => {
      const passedOn = this.#passedOn.reduce((sum, bytes) => sum + bytes(), 0);
      if (connection.packetBytesReceived - passedOn > MOST_STRANGER_BYTES) {
        connection.close(CloseCode.BAD_HELLO, CLOSE_REASONS.get(CloseCode.BAD_HELLO)!);
      }
    }, GREED_LOOK_MS);
    connection.ended.then(() => this[Symbol.dispose]());
  }

  /** What git-annex has taken is not kept by iroh. @param bytes How much that is. */
  except(bytes: () => number): void {
    this.#passedOn.push(bytes);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#passedOn = [];
  }
}

/** A signal that aborts after a time, with a reason that says what took too long, unless disposed of. */
class TimeLimit implements Disposable {
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
