/** The connections with peers that a listener keeps, and how a session gets one. */

import { abortable } from "../async/abort.ts";
import { OwnAddress, reach, Unreachable } from "../dial/dialer.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { Connection, Endpoint } from "../iroh/endpoint.ts";
import type { MuxConnection } from "../protocol/peer_connection.ts";
import type { Settings } from "../repository/settings.ts";
import { debug } from "../console/stderr.ts";
import { samePublicKey, type Ticket } from "../repository/ticket.ts";
import { MUX_ALPN } from "../protocol/mux.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import { DUMBPIPE_ALPN } from "../protocol/dumbpipe.ts";
import { rememberPlainAlone, speaksPlainAlone } from "../dial/alpn_cache.ts";
import { type On, TrialStream } from "./replay_stream.ts";

/**
 * A peer that was not reached is dialed for a shorter time in the minute after: git-annex tries four to
 * six times for each `sync`, and has its user wait for each.
 */
const AWAY_MS = 60_000, AWAY_LIMIT_MS = 4_000;

/** After a trial of a connection that was kept: with that, and what goes before, half a minute at most. */
const AGAIN_LIMIT_MS = 20_000;

/** What is needed to reach peers. */
export interface PeersOptions {
  /** The listener's. */
  readonly endpoint: Endpoint;
  readonly settings: Settings;
  /** Serves what the peer opens on a connection that was dialed here, to its end. */
  readonly serve: (connection: Connection) => Promise<void>;
  /** Gives up what is being dialed. */
  readonly signal: AbortSignal;
}

/** The peer speaks the plain wire alone, on which a connection carries one stream. */
export class PlainPeer extends Error {
  override readonly name = "PlainPeer";

  constructor() {
    super("the peer speaks dumbpipe's protocol alone");
  }
}

/** A session with a peer. Dispose of it when it is over. */
export interface PeerLine extends Disposable {
  readonly stream: Duplex;
  /** The connection it is on, once that is known; rejects if there is none any more. */
  readonly on: Promise<On>;
}

/** The connections of a listener on our own wire, dialed and accepted ones. */
export class Peers {
  #options: PeersOptions;
  /** By public key, in the order in which they came. */
  #connections = new Map<string, MuxConnection[]>();
  /** Those who were not reached, and when. */
  #failed = new Map<string, number>();
  #dialing = new Map<string, Promise<MuxConnection>>();

  constructor(options: PeersOptions) {
    this.#options = options;
  }

  /** A connection has come about. */
  add(own: MuxConnection): void {
    const key = own.connection.publicKey.toHex();
    this.#failed.delete(key);
    this.#connections.set(key, [...this.of(key), own]);
  }

  /** A connection has ended. */
  remove(own: MuxConnection): void {
    const key = own.connection.publicKey.toHex();
    const left = this.of(key).filter((other) => other !== own);
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
   * @throws {PlainPeer}, {OwnAddress}, {Unreachable}, or the signal's reason.
   */
  async open(ticket: Ticket, signal: AbortSignal): Promise<PeerLine> {
    const { endpoint } = this.#options;
    if (samePublicKey(ticket, endpoint)) throw new OwnAddress();
    const key = ticket.publicKey.toHex(), before = this.of(key);
    const kept = before.findLast(({ hasRoom }) => hasRoom);
    const first = kept && await openOn(kept, signal).catch((error) => {
      signal.throwIfAborted();
      debug(() => `a connection that was kept: ${error}`); // it has just ended: another is dialed
    });
    if (!first) {
      if (await speaksPlainAlone(ticket.publicKey)) throw new PlainPeer();
      const on = await this.#openAnew(ticket, signal);
      return { ...on.session, on: Promise.resolve(on) };
    }
    const heard = new Map(before.map((own) => [own, own.connection.packetsReceived]));
    const again = (signal: AbortSignal) => {
      const other = this.of(key).findLast((own) =>
        own !== kept && own.hasRoom && own.connection.packetsReceived !== heard.get(own)
      );
      if (other) return openOn(other, signal);
      // An endpoint goes on sending to where a peer was as long as it has any connection with it
      // (iroh's issue 3602): one that does not answer stands in the way of a new one.
      for (const { connection, idleSince } of before) {
        const code = idleSince === undefined ? CloseCode.STOPPED : CloseCode.DONE;
        connection.close(code, "it does not answer");
      }
      return this.#openAnew(ticket, signal, AGAIN_LIMIT_MS);
    };
    const isShared = () =>
      before.some((own) => own === kept ? own.isShared : own.idleSince === undefined);
    const stream = new TrialStream(first, again, isShared);
    return {
      stream,
      on: stream.settled,
      [Symbol.dispose]: () => {
        // What failed has been told to whoever reads.
        stream.settled.then(({ session }) => session[Symbol.dispose](), () => {});
      },
    };
  }

  async #openAnew(ticket: Ticket, signal: AbortSignal, limitMs?: number): Promise<On> {
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
    const wires = [MUX_ALPN, DUMBPIPE_ALPN];
    const key = ticket.publicKey.toHex(), failedAt = this.#failed.get(key) ?? -Infinity;
    const isAway = performance.now() - failedAt < AWAY_MS;
    const most = isAway ? AWAY_LIMIT_MS : limitMs;
    const options = { from: endpoint, ...most === undefined ? {} : { limitMs: most } };
    const { connection } = await reach(ticket, settings, wires, signal, options).catch((error) => {
      // As of when it was tried in earnest.
      if (error instanceof Unreachable && !isAway) this.#failed.set(key, performance.now());
      throw error;
    });
    if (connection.alpn === DUMBPIPE_ALPN) {
      connection.close(0n, "");
      await rememberPlainAlone(ticket.publicKey);
      throw new PlainPeer();
    }
    serve(connection).catch((error) => debug(() => `serving a peer: ${error}`)); // it has ended
    const own = this.of(key).find((own) => own.connection === connection);
    if (!own) throw new StreamError("lost", "the connection has ended already");
    return own;
  }
}

async function openOn(own: MuxConnection, signal: AbortSignal): Promise<On> {
  return { own, session: await own.open(signal) };
}
