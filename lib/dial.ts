/** From an address to a connection: every way to the peer is tried at once, the first one wins. */

import { Failure } from "./failure.ts";
import type { LanSearch } from "./find/lan.ts";
import { findOnSameHost } from "./find/same_host.ts";
import type { Connection, DialError, Endpoint, PeerAddress } from "./iroh.ts";
import type { Settings } from "./settings.ts";
import { debug } from "./stderr.ts";
import { type Ticket, TicketError } from "./ticket.ts";

/** Longest time a dial takes: iroh's own limit is 30 s, which is what people are promised. */
const DIAL_LIMIT_MS = 25_000;
/** Peers on the local network answer in some milliseconds; where nothing else is left, this is long. */
const LAN_LIMIT_MS = 5_000;
/** Dials of what is found on the local network, however much is said there. */
const MOST_LAN_DIALS = 16;

/** The ways that may lead to a peer. Dispose of it when the dial is over. */
interface Ways extends Disposable {
  /** Addresses that a listener on this host has left. */
  readonly sameHost: readonly string[];
  /** Addresses that stand in the peer's address. */
  readonly direct: readonly string[];
  /** Relays in the peer's address, and the user's own. */
  readonly relays: readonly string[];
  /** Iroh's public DNS. */
  readonly lookup: boolean;
  /** The local network, which is already being asked. */
  readonly lan: LanSearch | undefined;
}

/** A peer cannot be reached. */
export class Unreachable extends Failure {
  override readonly name = "Unreachable";
}

/** What there is to try for a peer, with these settings. */
async function findWays(ticket: Ticket, settings: Settings): Promise<Ways> {
  const { relay, lookup } = settings;
  const lan = settings.lan ? await searchLan(ticket.publicKey) : undefined;
  const relays = relay.kind === "none"
    ? []
    : relay.kind === "n0"
    ? ticket.relays
    : [...ticket.relays, ...relay.urls];
  return {
    sameHost: await findOnSameHost(ticket.publicKey),
    direct: ticket.direct,
    relays: [...new Set(relays)],
    lookup,
    lan,
    [Symbol.dispose]: () => lan?.[Symbol.dispose](),
  };
}

async function searchLan(publicKey: Uint8Array): Promise<LanSearch> {
  const { LanSearch } = await import("./find/lan.ts");
  return new LanSearch(publicKey);
}

/** A peer that has been reached. */
export interface Reached {
  readonly connection: Connection;
  /** In which way it was found, for people. */
  readonly way: string;
}

/**
 * Connects to a peer by whichever way is there first.
 *
 * @param alpns Protocols, the preferred one first: where a peer does not speak it, the next is tried.
 * @throws {Unreachable} which says what was tried, and what came of it, after at most
 * {@linkcode DIAL_LIMIT_MS}.
 * @throws {TicketError} if no peer can have that address.
 * @throws {BindError} if the UDP socket cannot be had.
 */
export async function reach(
  ticket: Ticket,
  settings: Settings,
  alpns: readonly string[],
  signal: AbortSignal,
): Promise<Reached> {
  debug(() => "dialing");
  const loading = import("./iroh.ts"); // while the search begins
  using ways = await findWays(ticket, settings);
  const { Endpoint } = await loading;
  // A key of its own: the repository's key is the listener's, and two endpoints with one key would
  // take each other's packets. The port, if one is set, is the listener's, too.
  const endpoint = await Endpoint.bind({
    relay: settings.relay,
    lookup: settings.lookup,
    bind: settings.bind?.replace(/:\d+$/, ":0"),
  });
  const limit = AbortSignal.any([signal, AbortSignal.timeout(DIAL_LIMIT_MS)]);
  const race = new Race((peer) => connectWithFirst(endpoint, peer, alpns, limit));
  enterKnown(race, ticket.publicKey, ways);
  if (ways.lan) enterLan(race, ticket.publicKey, ways.lan);
  race.start();
  try {
    const connection = await race.over;
    const way = wayOf(connection, ways);
    debug(() => `connected, found by ${way}, ${connection.path}`);
    return { connection, way };
  } catch (error) {
    signal.throwIfAborted();
    if (isDialError(error, "bad key")) {
      throw new TicketError("the address is damaged, it names no key");
    }
    throw unreachable(race.outcomes, error);
  }
}

/** Connects with the first protocol that the peer speaks, at the cost of a round trip for each. */
async function connectWithFirst(
  endpoint: Endpoint,
  peer: PeerAddress,
  [alpn, ...others]: readonly string[],
  signal: AbortSignal,
): Promise<Connection> {
  try {
    return await endpoint.connect(peer, alpn!, signal);
  } catch (error) {
    if (others.length === 0 || !isDialError(error, "other protocol")) throw error;
    return await connectWithFirst(endpoint, peer, others, signal);
  }
}

function unreachable(outcomes: ReadonlyMap<string, string>, cause: unknown): Unreachable {
  if (outcomes.size === 0) {
    return new Unreachable("cannot reach the peer, no way to it is known", {
      hint:
        "it is not running on this host, its address names no place, and relay, lookup and lan " +
        "are off",
    });
  }
  const tried = [...outcomes].map(([way, outcome]) => `${way} (${outcome})`);
  return new Unreachable(`cannot reach the peer; tried ${tried.join(", ")}`, {
    hint: "is git annex remotedaemon running there, and is it online?",
    cause,
  });
}

/** By which of the ways a connection has come about, going by the path it is on. */
function wayOf(connection: Connection, ways: Ways): string {
  const [kind, at] = connection.path.split(" ");
  if (kind === "relay") return `relay ${at}`;
  if (ways.sameHost.includes(at!)) return "the same host";
  if (ways.lan?.found.includes(at!)) return "the local network";
  if (ways.direct.includes(at!)) return "its address";
  return ways.lookup ? "the look-up at iroh's DNS" : "hole punching";
}

/** What is known from the start. */
function enterKnown(race: Race, publicKey: Uint8Array, ways: Ways): void {
  const direct = [...ways.sameHost, ...ways.direct];
  const [relay, ...moreRelays] = ways.relays;
  const names = [
    ...ways.sameHost.length > 0 ? [`this host (${ways.sameHost.join(", ")})`] : [],
    ...ways.direct,
    ...relay ? [`relay ${relay}`] : [],
  ];
  // One attempt for all of it, so that the peer sees one connection; of relays, iroh-js takes one.
  if (names.length > 0) race.enter(names.join(", "), { publicKey, direct, relay });
  for (const relay of moreRelays) race.enter(`relay ${relay}`, { publicKey, direct: [], relay });
  if (ways.lookup) race.enter("the look-up at iroh's DNS", { publicKey, direct: [] });
}

/** What is found on the local network, each time something is. */
function enterLan(race: Race, publicKey: Uint8Array, lan: LanSearch): void {
  const nobody = race.expect("the local network", "nobody there has its key");
  const timer = setTimeout(nobody, LAN_LIMIT_MS);
  race.over.finally(() => clearTimeout(timer)).catch(() => {}); // told to whoever awaits the winner
  let dials = 0;
  lan.whenFound((direct) => {
    // With all that is known so far: an address that lies costs nothing but an unanswered packet.
    if (dials++ < MOST_LAN_DIALS) race.enter("the local network", { publicKey, direct });
  });
}

/** Attempts of which the first that gets through wins. */
class Race {
  /** What came of each way that has not got through. */
  readonly outcomes = new Map<string, string>();
  #connect: (peer: PeerAddress) => Promise<Connection>;
  #winner = Promise.withResolvers<Connection>();
  /** Attempts that are under way, and ways on which there may yet be one. */
  #open = 0;
  #decided = false;

  constructor(connect: (peer: PeerAddress) => Promise<Connection>) {
    this.#connect = connect;
  }

  /** The first connection made. Rejects as the last attempt did, if none gets through. */
  get over(): Promise<Connection> {
    return this.#winner.promise;
  }

  /** An attempt. */
  enter(way: string, peer: PeerAddress): void {
    if (this.#decided) return;
    this.#open++;
    this.outcomes.set(way, "no answer");
    this.#connect(peer).then(
      (connection) => {
        if (this.#decided) return connection.close(0n, "another way was faster");
        this.#decided = true;
        this.#winner.resolve(connection);
      },
      (error) => {
        this.outcomes.set(way, reasonFor(error));
        debug(() => `${way}: ${reasonFor(error)}`);
        if (isDialError(error, "bad key")) this.#open = 1; // it is the same on every way
        this.#close(error);
      },
    );
  }

  /** There may yet be an attempt on a way, until what is returned is called. */
  expect(way: string, otherwise: string): () => void {
    this.#open++;
    this.outcomes.set(way, otherwise);
    return () => this.#close(new Error(otherwise));
  }

  /** To be called when all that is known from the start has been entered. */
  start(): void {
    if (this.#open === 0) this.#close(new Error("no way"));
  }

  #close(error: unknown): void {
    if (--this.#open > 0 || this.#decided) return;
    this.#decided = true;
    this.#winner.reject(error);
  }
}

/** By its parts: the class lives in a module that is only loaded when it is needed. */
function isDialError(error: unknown, kind: DialError["kind"]): boolean {
  return error instanceof Error && error.name === "DialError" &&
    (error as DialError).kind === kind;
}

function reasonFor(error: unknown): string {
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return `no answer within ${DIAL_LIMIT_MS / 1000} s`;
  }
  return error instanceof Error ? error.message : String(error);
}
