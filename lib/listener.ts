/** Serving: hand each connection to git-annex's socket, and let none harm another. */

import { Buffer } from "node:buffer";
import { abortable, delay } from "./abortable.ts";
import { AuthWatch } from "./auth_watch.ts";
import { type Duplex, StreamError } from "./duplex.ts";
import { systemReason } from "./failure.ts";
import type { Connection, Endpoint, Incoming } from "./iroh.ts";
import { GivenAway, type Place, Places } from "./places.ts";
import { splice, type SpliceEnd } from "./splice.ts";
import { debug } from "./stderr.ts";
import { nobodyListens, UnixSocket } from "./unix_socket.ts";
import { answerPing, OWN_ALPN, ProtocolError, receiveKind, StreamKind } from "./wire/own.ts";
import { BadHello, CloseCode, receiveHello } from "./wire/plain.ts";
import { Session } from "./wire/session.ts";

/** From the first packet to the hello. */
const HELLO_LIMIT_MS = 10_000;
/** From the hello to git-annex's `AUTH-SUCCESS`. */
const AUTH_LIMIT_MS = 30_000;
/** For a peer that offers a lane to be let in. */
const LET_IN_LIMIT_MS = 5_000;
/** git-annex accepts at once, unless its queue is full. */
const SOCKET_LIMIT_MS = 5_000;
/** Connections that are told to end do so at once. */
const END_LIMIT_MS = 3_000;
/** Between two tries while git-annex's queue is full. */
const SOCKET_RETRY_MS = 100;
/** At most so often a refusal is told of, lest strangers wash everything else out of the log. */
const REFUSED_REPORT_MS = 1_000;
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
}

/** A connection that has been handed to git-annex. */
interface Relayed {
  readonly connection: Connection;
  readonly stream: Duplex;
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
      for (let before = -Infinity; this.#relayed.size > 0;) {
        const moved = this.#moved();
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
    try {
      await this.#serve(incoming, source, place);
    } finally {
      place.leave();
    }
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

  async #serve(incoming: Incoming, source: string, place: Place): Promise<void> {
    const until = AbortSignal.any([this.#end.signal, place.givenAway]);
    using slow = new TimeLimit(HELLO_LIMIT_MS, new BadHello("no hello in time"));
    const hello = AbortSignal.any([until, slow.signal]);
    let connection: Connection;
    try {
      connection = await incoming.accept(hello);
    } catch (error) {
      return this.#options.report(`a connection from ${source} failed, ${systemReason(error)}`);
    }
    const peer = `${
      Buffer.from(connection.publicKey).toString("hex").slice(0, 10)
    } (${connection.path})`;
    try {
      if (connection.alpn === OWN_ALPN) {
        return await this.#serveOwn(connection, peer, place, until);
      }
      const stream = await connection.accept(hello);
      await abortable(receiveHello(stream), hello);
      await this.#relay(connection, stream, peer, place, until);
    } catch (error) {
      if (error instanceof StreamError && error.kind === "closed") {
        // It only wanted to know whether it would get through, or got through in another way, too.
        return debug(() => `${peer} has closed`);
      }
      const [code, reason] = closing(error);
      connection.close(code, reason);
      this.#options.report(`${peer} was turned away, ${systemReason(error)}`);
    }
  }

  /** What a peer wants on our own wire, until its session is over, or it wants nothing for a while. */
  async #serveOwn(
    connection: Connection,
    peer: string,
    place: Place,
    until: AbortSignal,
  ): Promise<void> {
    const failed = new AbortController();
    let session: { own: OwnSession; over: Promise<void> } | undefined;
    try {
      for (;;) {
        using idle = new TimeLimit(HELLO_LIMIT_MS, new BadHello("it is idle"));
        const limits = session ? [until, failed.signal] : [until, idle.signal];
        const stream = await connection.accept(AbortSignal.any(limits));
        using slow = new TimeLimit(HELLO_LIMIT_MS, new BadHello("it is idle"));
        const hello = AbortSignal.any([until, failed.signal, slow.signal]);
        const kind = await abortable(receiveKind(stream), hello);
        if (kind === StreamKind.PING) await abortable(answerPing(stream), hello);
        else if (kind === StreamKind.SESSION && !session) {
          const own = new OwnSession(connection, stream, this.#options.bind);
          const signal = AbortSignal.any([until, failed.signal]);
          const over = this.#relayOwn(connection, own, peer, place, signal);
          over.catch((error) => failed.abort(error));
          session = { own, over };
        } else if (kind === StreamKind.LANE && session) {
          const answered = session.own.answerLane(stream, place.whenAuthenticated, until);
          answered.catch((error) => failed.abort(error));
        } else throw new ProtocolError("a stream out of turn");
      }
    } catch (error) {
      // When it is the connection that has ended, the session knows how to end by itself.
      if (!(error instanceof StreamError)) failed.abort(error);
      await session?.over.catch(() => {}); // said already, by the error that is thrown here
      throw error;
    }
  }

  async #relayOwn(
    connection: Connection,
    session: OwnSession,
    peer: string,
    place: Place,
    until: AbortSignal,
  ): Promise<void> {
    using _ = session;
    await this.#relay(connection, session.session, peer, place, until);
  }

  /** Hands a stream to git-annex, until both directions have ended, and closes the connection. */
  async #relay(
    connection: Connection,
    stream: Duplex,
    peer: string,
    place: Place,
    until: AbortSignal,
  ): Promise<void> {
    const started = performance.now();
    this.#options.report(`${peer} connected`);
    using unauthenticated = new TimeLimit(AUTH_LIMIT_MS, new NotAuthenticated());
    const watch = new AuthWatch(() => {
      unauthenticated[Symbol.dispose]();
      place.authenticated();
    });
    using socket = await this.#connectSocket((chunk) => watch.see(chunk));
    const relayed = { connection, stream, socket };
    this.#relayed.add(relayed);
    using _ = { [Symbol.dispose]: () => void this.#relayed.delete(relayed) };
    const signal = AbortSignal.any([until, unauthenticated.signal]);
    // Before anything that gives up the stream can run, so that the peer learns the reason.
    const turnAway = () => connection.close(...closing(signal.reason));
    signal.addEventListener("abort", turnAway);
    using _listening = { // a listener would keep all this alive as long as the program runs
      [Symbol.dispose]: () => signal.removeEventListener("abort", turnAway),
    };
    const end = await splice(stream, socket, signal);
    signal.throwIfAborted();
    if (isLost(end)) connection.close(CloseCode.LANE_LOST, "the lane is lost");
    else connection.close(CloseCode.DONE, "");
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

/** A session of our own wire, and the lane it may move to. Dispose of it when it is over. */
class OwnSession implements Disposable {
  readonly session: Session;
  #connection: Connection;
  #bind: string | undefined;
  #link: Promise<Disposable | undefined> | undefined;

  constructor(connection: Connection, stream: Duplex, bind: string | undefined) {
    this.session = new Session(stream, connection.over);
    this.#connection = connection;
    this.#bind = bind;
  }

  /**
   * Answers the offer of a lane.
   *
   * @param letIn Resolves when the peer is no stranger, who could make this host dial whatever it names.
   * @throws {ProtocolError} if it is none.
   */
  async answerLane(stream: Duplex, letIn: Promise<void>, signal: AbortSignal): Promise<void> {
    if (this.#link) throw new ProtocolError("a second lane");
    this.#link = (async () => {
      // What lets it in may have been said, and not been seen yet.
      const limit = AbortSignal.any([signal, AbortSignal.timeout(LET_IN_LIMIT_MS)]);
      const wanted = await abortable(letIn, limit).then(() => true, () => false);
      const [{ answerLane }, { endsOf }] = await Promise.all([
        import("./lane/start.ts"),
        import("./lane/ends.ts"),
      ]);
      const ends = endsOf(this.#connection, this.#bind);
      return await answerLane(stream, this.session, ends, wanted, signal);
    })();
    await this.#link.catch((error) => {
      debug(() => `no lane: ${error}`); // the session stays where it is
      if (error instanceof Error && error.name === "BadOffer") {
        throw new ProtocolError(error.message);
      }
    });
  }

  [Symbol.dispose](): void {
    this.#link?.then((link) => link?.[Symbol.dispose](), () => {}); // there is none
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
function closing(error: unknown): [code: bigint, reason: string] {
  if (error instanceof GivenAway || error instanceof Busy) {
    return [CloseCode.BUSY, "too many connections"];
  }
  if (error instanceof NoService) {
    return [CloseCode.NO_SERVICE, "git annex remotedaemon is not running"];
  }
  if (error instanceof ProtocolError) return [CloseCode.BAD_HELLO, "against the protocol"];
  if (error instanceof BadHello) return [CloseCode.BAD_HELLO, "no hello"];
  if (error instanceof NotAuthenticated) {
    return [CloseCode.NOT_AUTHENTICATED, "not authenticated in time"];
  }
  return [CloseCode.STOPPED, "stopped"];
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
