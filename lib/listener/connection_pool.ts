/** The connections with peers that a listener keeps, and how a session gets one. */

import { abortable } from "../async/abort.ts";
import { dialPeer, SelfDial, Unreachable } from "../dial/dialer.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { Connection, Endpoint } from "../iroh/endpoint.ts";
import type { MuxConnection } from "../protocol/peer_connection.ts";
import type { Settings } from "../repository/settings.ts";
import { debug } from "../console/stderr.ts";
import { samePublicKey, type Ticket } from "../repository/ticket.ts";
import { MUX_ALPN } from "../protocol/mux.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import { DUMBPIPE_ALPN } from "../protocol/dumbpipe.ts";
import { rememberDumbpipeOnly, speaksDumbpipeOnly } from "../dial/alpn_cache.ts";
import { type PooledStream, ReplayStream } from "./replay_stream.ts";

/**
 * A peer that was not reached is dialed for a shorter time in the minute after: git-annex tries four to
 * six times for each `sync`, and has its user wait for each.
 */
const UNREACHABLE_MS = 60_000, UNREACHABLE_DIAL_LIMIT_MS = 4_000;

/** After a trial of a connection that was kept: with that, and what goes before, half a minute at most. */
const REOPEN_LIMIT_MS = 20_000;

/** What is needed to reach peers. */
export interface ConnectionPoolOptions {
  /** The listener's. */
  readonly endpoint: Endpoint;
  readonly settings: Settings;
  /** Serves what the peer opens on a connection that was dialed here, to its end. */
  readonly serve: (connection: Connection) => Promise<void>;
  /** Gives up what is being dialed. */
  readonly signal: AbortSignal;
}

/** The peer speaks dumbpipe's protocol alone, on which a connection carries one stream. */
export class DumbpipeOnly extends Error {
  override readonly name = "DumbpipeOnly";

  constructor() {
    super("the peer speaks dumbpipe's protocol alone");
  }
}

/** A session with a peer. Dispose of it when it is over. */
export interface PooledSession extends Disposable {
  readonly stream: Duplex;
  /** The connection it is on, once that is known; rejects if there is none any more. */
  readonly opened: Promise<PooledStream>;
}

/** The connections of a listener on the mux protocol, dialed and accepted ones. */
export class ConnectionPool {
  #options: ConnectionPoolOptions;
  /** By public key, in the order in which they came. */
  #connections = new Map<string, MuxConnection[]>();
  /** Those who were not reached, and when. */
  #unreachableSince = new Map<string, number>();
  #dialing = new Map<string, Promise<MuxConnection>>();

  constructor(options: ConnectionPoolOptions) {
    this.#options = options;
  }

  /** A connection has come about. */
  add(mux: MuxConnection): void {
    const key = mux.connection.publicKey.toHex();
    this.#unreachableSince.delete(key);
    this.#connections.set(key, [...this.of(key), mux]);
  }

  /** A connection has ended. */
  remove(mux: MuxConnection): void {
    const key = mux.connection.publicKey.toHex();
    const left = this.of(key).filter((other) => other !== mux);
    if (left.length > 0) this.#connections.set(key, left);
    else this.#connections.delete(key);
  }

  /** Public keys, in hex, of those there is a connection with. */
  keys(): Iterable<string> {
    return this.#connections.keys();
  }

  /** Connections with a peer, by its public key in hex. */
  of(key: string): readonly MuxConnection[] {
    return (this.#connections.get(key) ?? []).filter(({ isClosed }) => !isClosed);
  }

  /**
   * Opens a session, on a connection that there is, or else on a new one.
   *
   * @throws {DumbpipeOnly}, {SelfDial}, {Unreachable}, or the signal's reason.
   */
  async open(ticket: Ticket, signal: AbortSignal): Promise<PooledSession> {
    const { endpoint } = this.#options;
    if (samePublicKey(ticket, endpoint)) throw new SelfDial();
    const key = ticket.publicKey.toHex(), before = this.of(key);
    const kept = before.findLast(({ hasRoom }) => hasRoom);
    const first = kept && await openOn(kept, signal).catch((error) => {
      signal.throwIfAborted();
      debug(() => `a connection that was kept: ${error}`); // it has just ended: another is dialed
    });
    if (!first) {
      if (await speaksDumbpipeOnly(ticket.publicKey)) throw new DumbpipeOnly();
      const pooled = await this.#openOnNew(ticket, signal);
      return { ...pooled.session, opened: Promise.resolve(pooled) };
    }
    const packetsBefore = new Map(before.map((mux) => [mux, mux.connection.packetsReceived]));
    const reopen = (signal: AbortSignal) => {
      const other = this.of(key).findLast((mux) =>
        mux !== kept && mux.hasRoom && mux.connection.packetsReceived !== packetsBefore.get(mux)
      );
      if (other) return openOn(other, signal);
      // An endpoint goes on sending to where a peer was as long as it has any connection with it
      // (iroh's issue 3602): one that does not answer stands in the way of a new one.
      for (const { connection, idleSince } of before) {
        const code = idleSince === undefined ? CloseCode.STOPPED : CloseCode.DONE;
        connection.close(code, "it does not answer");
      }
      return this.#openOnNew(ticket, signal, REOPEN_LIMIT_MS);
    };
    const isShared = () =>
      before.some((mux) => mux === kept ? mux.isShared : mux.idleSince === undefined);
    const stream = new ReplayStream(first, reopen, isShared);
    return {
      stream,
      opened: stream.confirmed,
      [Symbol.dispose]: () => {
        // What failed has been told to whoever reads.
        stream.confirmed.then(({ session }) => session[Symbol.dispose](), () => {});
      },
    };
  }

  async #openOnNew(ticket: Ticket, signal: AbortSignal, limitMs?: number): Promise<PooledStream> {
    const key = ticket.publicKey.toHex();
    let dialing = this.#dialing.get(key);
    if (!dialing) {
      // Goes on when whoever wanted it goes away: it is of use to the next one.
      dialing = this.#dial(ticket, limitMs).finally(() => this.#dialing.delete(key));
      dialing.catch(() => {}); // told to whoever waits
      this.#dialing.set(key, dialing);
    }
    return await openOn(await abortable(dialing, signal), signal);
  }

  async #dial(ticket: Ticket, limitMs?: number): Promise<MuxConnection> {
    const { endpoint, settings, signal, serve } = this.#options;
    const alpns = [MUX_ALPN, DUMBPIPE_ALPN];
    const key = ticket.publicKey.toHex(),
      unreachableSince = this.#unreachableSince.get(key) ?? -Infinity;
    const isUnreachable = performance.now() - unreachableSince < UNREACHABLE_MS;
    const most = isUnreachable ? UNREACHABLE_DIAL_LIMIT_MS : limitMs;
    const options = { from: endpoint, ...most === undefined ? {} : { limitMs: most } };
    const { connection } = await dialPeer(ticket, settings, alpns, signal, options).catch(
      (error) => {
        // As of when it was tried in earnest.
        if (error instanceof Unreachable && !isUnreachable) {
          this.#unreachableSince.set(key, performance.now());
        }
        throw error;
      },
    );
    if (connection.alpn === DUMBPIPE_ALPN) {
      connection.close(0n, "");
      await rememberDumbpipeOnly(ticket.publicKey);
      throw new DumbpipeOnly();
    }
    serve(connection).catch((error) => debug(() => `serving a peer: ${error}`)); // it has ended
    const mux = this.of(key).find((mux) => mux.connection === connection);
    if (!mux) throw new StreamError("lost", "the connection has ended already");
    return mux;
  }
}

async function openOn(mux: MuxConnection, signal: AbortSignal): Promise<PooledStream> {
  return { mux, session: await mux.open(signal) };
}
