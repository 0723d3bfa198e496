/** From an address to a connection: gather every way to the peer, try all at once. */

import { Failure } from "./failure.ts";
import { findOnSameHost } from "./find/same_host.ts";
import type { Connection, DialError, Endpoint, PeerAddress } from "./iroh.ts";
import type { Settings } from "./settings.ts";
import { debug } from "./stderr.ts";
import { type Ticket, TicketError } from "./ticket.ts";

/** Longest time a dial takes: iroh's own limit is 30 s, which is what people are promised. */
const DIAL_LIMIT_MS = 25_000;

/** The ways that may lead to a peer. */
export interface Ways {
  /** Addresses that a listener on this host has left. */
  readonly sameHost: readonly string[];
  /** Addresses that stand in the peer's address. */
  readonly direct: readonly string[];
  /** Relays in the peer's address, and the user's own. */
  readonly relays: readonly string[];
  /** Iroh's public DNS. */
  readonly lookup: boolean;
}

/** A peer cannot be reached. */
export class Unreachable extends Failure {
  override readonly name = "Unreachable";
}

/** What there is to try for a peer, with these settings. */
export async function findWays(ticket: Ticket, settings: Settings): Promise<Ways> {
  const { relay } = settings;
  const relays = relay.kind === "none"
    ? []
    : relay.kind === "n0"
    ? ticket.relays
    : [...ticket.relays, ...relay.urls];
  return {
    sameHost: await findOnSameHost(ticket.publicKey),
    direct: ticket.direct,
    relays: [...new Set(relays)],
    lookup: settings.lookup,
  };
}

/**
 * Connects to a peer by whichever way is there first.
 *
 * @throws {Unreachable} which says what was tried, after at most {@linkcode DIAL_LIMIT_MS}.
 * @throws {TicketError} if no peer can have that address.
 */
export async function dial(
  endpoint: Endpoint,
  ticket: Ticket,
  ways: Ways,
  alpn: string,
  signal: AbortSignal,
): Promise<Connection> {
  const tried = describeWays(ways);
  debug(() => `dialing, ways: ${tried.join(", ") || "none"}`);
  if (tried.length === 0) {
    throw new Unreachable("cannot reach the peer, no way to it is known", {
      hint:
        "it is not running on this host, its address names no place, and relay and lookup are none",
    });
  }
  const limit = AbortSignal.any([signal, AbortSignal.timeout(DIAL_LIMIT_MS)]);
  const attempts = peerAddresses(ticket, ways).map((peer) => endpoint.connect(peer, alpn, limit));
  try {
    const connection = await firstOf(attempts);
    debug(() => `connected, ${connection.path}`);
    return connection;
  } catch (error) {
    signal.throwIfAborted();
    if (isBadKey(error)) throw new TicketError("the address is damaged, it names no key");
    throw new Unreachable(`cannot reach the peer, ${reasonFor(error)}; tried ${tried.join(", ")}`, {
      hint: "is git annex remotedaemon running there, and is it online?",
      cause: error,
    });
  }
}

/** iroh-js takes one relay at a time, so each gets an attempt; all go through the same endpoint. */
function peerAddresses(ticket: Ticket, ways: Ways): PeerAddress[] {
  const { publicKey } = ticket;
  const direct = [...ways.sameHost, ...ways.direct];
  const relays = ways.relays.length > 0 ? ways.relays : [undefined];
  return relays.map((relay) => ({ publicKey, direct, relay }));
}

/** The first connection made; those that come later are closed. Rejects as the first attempt did. */
async function firstOf(attempts: Promise<Connection>[]): Promise<Connection> {
  try {
    const first = await Promise.any(attempts);
    for (const attempt of attempts) {
      attempt.then((other) => {
        if (other !== first) other.close(0n, "another way was faster");
      }, () => {}); // it failed, and is not needed
    }
    return first;
  } catch (error) {
    throw error instanceof AggregateError ? error.errors[0] : error;
  }
}

/** By its parts: the class lives in a module that this one does not load, for its native addon. */
function isBadKey(error: unknown): boolean {
  return error instanceof Error && error.name === "DialError" &&
    (error as DialError).kind === "bad key";
}

function describeWays(ways: Ways): string[] {
  return [
    ...ways.sameHost.length > 0 ? [`this host (${ways.sameHost.join(", ")})`] : [],
    ...ways.direct,
    ...ways.relays.map((url) => `relay ${url}`),
    ...ways.lookup ? ["the look-up at iroh's DNS"] : [],
  ];
}

function reasonFor(error: unknown): string {
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return `no answer within ${DIAL_LIMIT_MS / 1000} s`;
  }
  return error instanceof Error ? error.message : String(error);
}
