/** Keeps the connections of a listener, and opens sessions on them. */

import { abortable, delay } from "../async/abort.ts";
import { dialPeer, SelfDial } from "../dial/dialer.ts";
import { DIAL_LIMITS, type DialLimits, PATIENT_LIMITS } from "../dial/dial_limits.ts";
import { Unreachable } from "../dial/unreachable.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { Connection } from "../iroh/connection.ts";
import type { Endpoint } from "../iroh/endpoint.ts";
import type { MuxConnection } from "../protocol/peer_connection.ts";
import type { SessionRequest } from "../protocol/session_opener.ts";
import type { Settings } from "../repository/settings.ts";
import { debug } from "../console/stderr.ts";
import { samePublicKey, type Ticket } from "../repository/ticket.ts";
import { MUX_ALPN } from "../protocol/mux.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import { DUMBPIPE_ALPN } from "../protocol/dumbpipe.ts";
import { rememberDumbpipeOnly, speaksDumbpipeOnly } from "../dial/alpn_cache.ts";
import type { ConnectionOutcome, Presence } from "./presence.ts";
import { type PooledStream, ReplayStream } from "./replay_stream.ts";

/** Time for which a connection is kept that tells only that the peer is there. A stranger's is closed after 10 s. */
const PROBE_KEPT_MS = 5_000;

/** Timeout for telling the peer that a session is not resumed: many round trips. */
const GIVE_UP_TIMEOUT_MS = 5_000;

/** What a pool needs to reach peers. */
export interface ConnectionPoolOptions {
  /** The listener's endpoint. */
  readonly endpoint: Endpoint;
  readonly settings: Settings;
  readonly presence: Presence;
  /** Serves the sessions that the peer opens on a dialed connection, until the connection ends. */
  readonly serve: (connection: Connection) => Promise<void>;
  /** Gives up all dials. */
  readonly signal: AbortSignal;
  /** Dials a peer; tests pass another function. */
  readonly dial?: typeof dialPeer;
  /** Timeout for telling the peer that a session is not resumed; tests pass a shorter one. */
  readonly giveUpTimeoutMs?: number;
}

/** The peer speaks only dumbpipe's protocol, where a connection carries one stream and cannot be kept. */
export class DumbpipeOnly extends Error {
  override readonly name = "DumbpipeOnly";

  constructor() {
    super("the peer speaks only dumbpipe's protocol");
  }
}

/** Why a peer is dialed. A dial for one purpose takes longer, or tries less, than one for another. */
type Purpose = "session" | "resumption" | "probe";

/** A session with a peer. Dispose of it when it is over. */
export interface PooledSession extends Disposable {
  readonly stream: Duplex;
  /** Resolves once it is known which connection carries it; rejects if none does. */
  readonly opened: Promise<PooledStream>;
}

/** The connections of a listener on the mux protocol, both dialed and accepted. */
export class ConnectionPool {
  #options: ConnectionPoolOptions;
  /** By public key in hex, oldest first. */
  #connections = new Map<string, MuxConnection[]>();
  /** Dials that are under way, by public key in hex and purpose. */
  #dialing = new Map<string, Promise<MuxConnection>>();

  constructor(options: ConnectionPoolOptions) {
    this.#options = options;
  }

  /** Adds a connection that has begun. */
  add(mux: MuxConnection): void {
    const key = mux.connection.publicKey.toHex();
    this.#options.presence.connected(key, mux.isDialed);
    this.#connections.set(key, [...this.of(key), mux]);
  }

  /** Removes a connection that has ended. */
  remove(mux: MuxConnection, outcome: ConnectionOutcome): void {
    const key = mux.connection.publicKey.toHex();
    const left = this.of(key).filter((other) => other !== mux);
    if (left.length > 0) this.#connections.set(key, left);
    else this.#connections.delete(key);
    this.#options.presence.disconnected(key, outcome);
  }

  /** Returns the public keys, in hex, of all connected peers. */
  keys(): Iterable<string> {
    return this.#connections.keys();
  }

  /** Returns the connections with a peer, oldest first. @param key Its public key in hex. */
  of(key: string): readonly MuxConnection[] {
    return (this.#connections.get(key) ?? []).filter(({ isClosed }) => !isClosed);
  }

  /**
   * Opens a session on a kept connection, or else on a new one.
   *
   * @throws {DumbpipeOnly}, {SelfDial}, {Unreachable}, or the signal's reason.
   */
  async open(
    ticket: Ticket,
    request: SessionRequest,
    signal: AbortSignal,
  ): Promise<PooledSession> {
    const { endpoint } = this.#options;
    if (samePublicKey(ticket, endpoint)) throw new SelfDial();
    const key = ticket.publicKey.toHex(), before = this.of(key);
    // A session that is resumed is not replayed: the peer would take that for another generation.
    const kept = request.isResumed ? undefined : before.findLast(({ hasRoom }) => hasRoom);
    const first = kept && await openOn(kept, request, signal).catch((error) => {
      signal.throwIfAborted();
      debug(() => `a kept connection: ${error}`); // it has just ended, so a new one is dialed
    });
    if (!first) {
      if (await speaksDumbpipeOnly(ticket.publicKey)) throw new DumbpipeOnly();
      const pooled = await this.#openOnNew(ticket, request, signal);
      return { ...pooled.session, opened: Promise.resolve(pooled) };
    }
    const packetsBefore = new Map(before.map((mux) => [mux, mux.connection.packetsReceived]));
    const reopen = (signal: AbortSignal) => {
      const other = this.of(key).findLast((mux) =>
        mux !== kept && mux.hasRoom && mux.connection.packetsReceived !== packetsBefore.get(mux)
      );
      if (other) return openOn(other, request, signal);
      // While an endpoint has a connection with a peer, it sends to the peer's old address (iroh's issue
      // 3602). A connection that does not answer therefore prevents a new one.
      for (const { connection, idleSince } of before) {
        // The sessions on it may be resumed.
        const code = idleSince === undefined ? CloseCode.LOST : CloseCode.DONE;
        connection.close(code, "it does not answer");
      }
      return this.#openOnNew(ticket, request, signal);
    };
    const isShared = () =>
      before.some((mux) => mux === kept ? mux.isShared : mux.idleSince === undefined);
    const stream = new ReplayStream(first, reopen, isShared);
    return {
      stream,
      opened: stream.confirmed,
      [Symbol.dispose]: () => {
        stream.confirmed.then(({ session }) => session[Symbol.dispose](), () => {}); // reads fail, too
      },
    };
  }

  /**
   * Tries whether a peer is there, and keeps the connection for a moment if it is. One that is believed away is not
   * searched for on the local network: it announces itself there when it is back.
   *
   * @throws As {@linkcode open}.
   */
  async probe(ticket: Ticket): Promise<void> {
    if (samePublicKey(ticket, this.#options.endpoint)) throw new SelfDial();
    const isAway = this.#options.presence.of(ticket.publicKey.toHex()) === "away";
    const mux = await this.#connect(ticket, DIAL_LIMITS, isAway ? "probe" : "session");
    if (!mux.isDialed) return; // the peer has dialed, and may need the connection
    const unusedSince = mux.idleSince;
    await delay(PROBE_KEPT_MS, this.#options.signal);
    if (unusedSince !== undefined && mux.idleSince === unusedSince) mux.closeGracefully();
  }

  async #openOnNew(
    ticket: Ticket,
    request: SessionRequest,
    signal: AbortSignal,
  ): Promise<PooledStream> {
    const { giveUpTimeoutMs = GIVE_UP_TIMEOUT_MS } = this.#options;
    const tooLate = request.isResumed
      ? (mux: MuxConnection) => giveUpOn(mux, request, giveUpTimeoutMs)
      : undefined;
    const connecting = request.isResumed
      ? this.#connect(ticket, PATIENT_LIMITS, "resumption") // the peer was there a moment ago
      : this.#connectUnlessAway(ticket);
    return await openOn(await abortable(connecting, signal, tooLate), request, signal);
  }

  /** Connects, but not at once again with a peer that has just failed to answer. */
  async #connectUnlessAway(ticket: Ticket): Promise<MuxConnection> {
    const key = ticket.publicKey.toHex(), { presence } = this.#options;
    const failure = this.#dialing.has(`${key} session`)
      ? undefined
      : presence.failsAtOnce(key, routesIn(ticket));
    if (failure) throw failure;
    return await this.#connect(ticket, presence.limits(key), "session");
  }

  /** Dials a peer, or waits for the dial for that purpose which is under way. */
  #connect(ticket: Ticket, limits: DialLimits, purpose: Purpose): Promise<MuxConnection> {
    const id = `${ticket.publicKey.toHex()} ${purpose}`;
    const other = this.#dialing.get(id);
    if (other) return other;
    // The dial goes on if the process that wanted it has gone: the next session can use it.
    const result = this.#dial(ticket, limits, purpose).finally(() => this.#dialing.delete(id));
    result.catch(() => {}); // those that wait get the error
    this.#dialing.set(id, result);
    return result;
  }

  async #dial(ticket: Ticket, limits: DialLimits, purpose: Purpose): Promise<MuxConnection> {
    const { endpoint, signal, serve, presence, dial = dialPeer } = this.#options;
    const settings = purpose === "probe"
      ? { ...this.#options.settings, lan: false }
      : this.#options.settings;
    const alpns = [MUX_ALPN, DUMBPIPE_ALPN], key = ticket.publicKey.toHex();
    const options = { from: endpoint, limits };
    const before = this.of(key), begunAt = presence.now;
    let connection: Connection;
    try {
      ({ connection } = await dial(ticket, settings, alpns, signal, options));
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      const failure = presence.failed(key, routesIn(ticket), error, begunAt);
      const other = this.of(key).findLast((mux) => mux.hasRoom && !before.includes(mux));
      if (other) return other; // the peer has connected meanwhile
      throw failure;
    }
    if (connection.alpn === DUMBPIPE_ALPN) {
      connection.close(0n, "");
      presence.seen(key);
      await rememberDumbpipeOnly(ticket.publicKey);
      throw new DumbpipeOnly();
    }
    serve(connection).catch((error) => debug(() => `serving a peer: ${error}`)); // it has ended
    const mux = this.of(key).find((mux) => mux.connection === connection);
    if (!mux) throw new StreamError("lost", "the connection has already ended");
    return mux;
  }
}

/** Returns the routes that an address names, as text. */
function routesIn({ relays, direct }: Ticket): string {
  return [...relays, ...direct].join(" ");
}

/** Tells the peer that a session which waits to be resumed is given up: its process has gone. Never rejects. */
async function giveUpOn(
  mux: MuxConnection,
  request: SessionRequest,
  timeoutMs: number,
): Promise<void> {
  const limit = AbortSignal.timeout(timeoutMs);
  try {
    using session = await mux.open(limit, request);
    const reader = session.stream.readable.getReader();
    // After its first frame, the peer has read which session it is. One that says nothing must be told, too.
    await abortable(reader.read(), limit).catch(() => {});
    const reason = new StreamError("refused", "given up", { code: CloseCode.STOPPED });
    await Promise.all([reader.cancel(reason), session.stream.writable.abort(reason)]);
  } catch (error) {
    debug(() => `a session that is not resumed: ${error}`); // the peer gives it up after a while
  }
}

async function openOn(
  mux: MuxConnection,
  request: SessionRequest,
  signal: AbortSignal,
): Promise<PooledStream> {
  return { mux, session: await mux.open(signal, request) };
}
