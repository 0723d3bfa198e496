/** From an address to a connection: every way to the peer is tried at once, the first one wins. */

import { isIP } from "node:net";
import { abortable } from "../async/abort.ts";
import { Failure, systemReason } from "../console/failure.ts";
import type { MdnsBrowser } from "../discovery/mdns.ts";
import { findOnSameHost } from "../discovery/same_host.ts";
import type { Connection, LocalEndpoint, PeerAddress } from "../iroh/connection.ts";
import type { Endpoint } from "../iroh/endpoint.ts";
import type { DialError } from "../iroh/errors.ts";
import { loadIroh } from "../iroh/load.ts";
import { describePath } from "../iroh/path.ts";
import { Race } from "../async/race.ts";
import type { Settings } from "../repository/settings.ts";
import { withAnyPort } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";
import { type Ticket, TicketError } from "../repository/ticket.ts";

/** Longest time a dial takes: iroh's own limit is 30 s, which is what people are promised. */
const DIAL_LIMIT_MS = 25_000;
/** Peers on the local network answer in some milliseconds; where nothing else is left, this is long. */
const LAN_LIMIT_MS = 5_000;
/** Whoever is on the local network and does not answer by now may be in the way of the others. */
const LAN_ANSWER_LIMIT_MS = 2_000;
/** A look-up takes about this long, and begins with any other way that is tried. */
const LOOKUP_MS = 300;
/**
 * Addresses of the local network that are tried together. The truth is a few of them, so that with more
 * somebody lies.
 */
const MOST_TOGETHER = 64;
/** Places for addresses of the local network that are; each is free again some seconds after its try. */
const MOST_SLOTS = 64;
/** How long one of the local network keeps its place when others wait for one. */
const SLOT_MS = 1_000;
const SLOT_EXPIRED = new Error(`no answer within ${SLOT_MS / 1000} s, and others wait`);

/** One of the ways that may lead to a peer. */
interface Route {
  /** For people. */
  readonly name: string;
  readonly direct?: readonly string[];
  readonly relay?: string;
  /** Whether to ask iroh's public DNS. */
  readonly lookup?: boolean;
}

const SAME_HOST = "the same host";
const LOCAL_NETWORK = "the local network";
const LOOKUP = "the look-up at iroh's DNS";

/** A peer cannot be reached. */
export class Unreachable extends Failure {
  override readonly name = "Unreachable";
}

/** A repository is to connect to itself. */
export class SelfDial extends Failure {
  override readonly name = "SelfDial";

  constructor() {
    super("that is this repository's own address", {
      hint: "use the address of a peer",
    });
  }
}

/** A peer that has been reached. */
export interface DialResult {
  readonly connection: Connection;
  /** In which way it was found, for people. */
  readonly route: string;
}

/** What may be otherwise. */
export interface DialOptions {
  /** The endpoint to dial from; a new one with a key of its own when not given. */
  readonly from?: LocalEndpoint;
  /** Longest time it takes. */
  readonly limitMs?: number;
}

/**
 * Connects to a peer by whichever way is there first.
 *
 * @param alpns Protocols, the preferred one first: where a peer does not speak it, the next is tried.
 * @throws {Unreachable} which says what was tried, and what came of it, after at most
 * {@linkcode DIAL_LIMIT_MS}, or `limitMs`.
 * @throws {TicketError} if no peer can have that address.
 * @throws {BindError} if the UDP socket cannot be had.
 */
export async function dialPeer(
  ticket: Ticket,
  settings: Settings,
  alpns: readonly string[],
  signal: AbortSignal,
  { from, limitMs = DIAL_LIMIT_MS }: DialOptions = {},
): Promise<DialResult> {
  debug(() => "dialing");
  const loading = loadIroh(); // while the search begins
  using browser = settings.lan ? await browseLan(ticket.publicKey) : undefined;
  const known = knownRoutes(ticket, settings, await findOnSameHost(ticket.publicKey));
  const { Endpoint } = await loading;
  const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
  using dial = new Dial(ticket.publicKey, settings, alpns, { limit, limitMs }, Endpoint);
  try {
    const connection = await abortable(dial.first(known, browser, from), signal);
    const route = routeLabel(connection, [...known, dial.lanRoute]);
    debug(() => `connected, found by ${route}, ${describePath(connection.path)}`);
    return { connection, route };
  } catch (error) {
    signal.throwIfAborted();
    if (isDialError(error, "invalid-key")) {
      throw new TicketError("the address is damaged, it names no key");
    }
    if (error instanceof Failure) throw error;
    throw unreachable(dial.outcomes, error);
  }
}

async function browseLan(publicKey: Uint8Array): Promise<MdnsBrowser> {
  const { MdnsBrowser } = await import("../discovery/mdns.ts");
  return new MdnsBrowser(publicKey);
}

/** What there is to try for a peer, with these settings. */
function knownRoutes(ticket: Ticket, settings: Settings, sameHost: readonly string[]): Route[] {
  const { relay, lookup } = settings;
  const relays = relay.kind === "none"
    ? []
    : relay.kind === "n0"
    ? ticket.relays
    : [...ticket.relays, ...relay.urls];
  return [
    ...sameHost.length > 0 ? [{ name: SAME_HOST, direct: sameHost }] : [],
    ...ticket.direct.map((address) => ({ name: address, direct: [address] })),
    ...[...new Set(relays)].map((relay) => ({ name: `relay ${relay}`, relay })),
    ...lookup ? [{ name: LOOKUP, lookup }] : [],
  ];
}

/** One dial. Dispose of it when it is over: what has been connected stays. */
class Dial implements Disposable {
  /** Addresses on the local network that have been tried. */
  #lanAddresses = new Set<string>();
  #browser: MdnsBrowser | undefined;
  #publicKey: Uint8Array;
  #settings: Settings;
  #alpns: readonly string[];
  #limit: AbortSignal;
  #limitMs: number;
  #Endpoint: typeof Endpoint;
  #race: Race<Connection>;
  #known: readonly Route[] = [];
  #timers: ReturnType<typeof setTimeout>[] = [];
  /** Whether each way is to have a socket of its own, and whether it has. */
  #isIsolationWanted = false;
  #isIsolated = false;
  /** Places of those that are tried apart on the local network, and what frees those that had their time. */
  #slots = 0;
  #overdue: AbortController[] = [];
  #endpoints = new Set<LocalEndpoint>();
  #disposed = false;

  constructor(
    publicKey: Uint8Array,
    settings: Settings,
    alpns: readonly string[],
    { limit, limitMs }: { limit: AbortSignal; limitMs: number },
    endpointClass: typeof Endpoint,
  ) {
    this.#publicKey = publicKey;
    this.#settings = settings;
    this.#alpns = alpns;
    this.#limit = limit;
    this.#limitMs = limitMs;
    this.#Endpoint = endpointClass;
    this.#race = new Race(
      (late) => late.close(0n, "another way was faster"),
      (error) => this.#describeFailure(error),
    );
  }

  /** What was found on the local network. */
  get lanRoute(): Route {
    return { name: LOCAL_NETWORK, direct: [...this.#lanAddresses] };
  }

  /** What came of each way. */
  get outcomes(): ReadonlyMap<string, string> {
    return this.#race.outcomes;
  }

  /** The first connection. */
  async first(
    known: readonly Route[],
    browser: MdnsBrowser | undefined,
    from: LocalEndpoint | undefined,
  ): Promise<Connection> {
    this.#known = known;
    const endpoint = from ?? await this.#bind(this.#settings);
    this.#addKnown(endpoint);
    if (browser) this.#addLan(endpoint, browser);
    this.#race.seal();
    const connection = await this.#race.winner;
    this.#endpoints.delete(connection.endpoint);
    return connection;
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#race.giveUp(new Error("the dial is over")); // nothing, when somebody has won
    this.#disposed = true;
    for (const endpoint of this.#endpoints) close(endpoint);
  }

  /** All that needs no asking in one attempt, so that the peer sees one connection. */
  #addKnown(endpoint: LocalEndpoint): void {
    const [relay, ...moreRelays] = this.#known.filter(({ relay }) => relay);
    const together = this.#known.filter((route) => route.direct || route === relay);
    if (together.length > 0) this.#add(endpoint, together);
    for (const relay of moreRelays) this.#add(endpoint, [relay]); // iroh-js takes one at a time
    const lookup = this.#known.find(({ lookup }) => lookup);
    if (!lookup) return;
    if (together.length === 0) return this.#add(endpoint, [lookup]);
    // The endpoint is asking already; this sends to what it has been told.
    const notTried = this.#race.reserve(lookup.name, "no answer");
    this.#after(LOOKUP_MS, () => {
      this.#add(endpoint, [lookup]);
      notTried();
    });
  }

  /** What is found on the local network, each time something is. */
  #addLan(endpoint: LocalEndpoint, browser: MdnsBrowser): void {
    this.#after(LAN_LIMIT_MS, this.#race.reserve(LOCAL_NETWORK, "nobody there has its key"));
    this.#browser = browser;
    browser.onFound(() => {
      if (!this.#isIsolated) this.#addFound(endpoint, browser);
      this.#fillSlots();
    });
  }

  #addFound(endpoint: LocalEndpoint, browser: MdnsBrowser): void {
    const found: string[] = [];
    while (this.#lanAddresses.size < MOST_TOGETHER) {
      const address = browser.next();
      if (address === undefined) break;
      if (this.#lanAddresses.has(address)) continue; // forgotten, and said again
      if (this.#lanAddresses.size === 0) this.#after(LAN_ANSWER_LIMIT_MS, () => this.#isolate());
      this.#lanAddresses.add(address);
      found.push(address);
    }
    if (found.length > 0) this.#add(endpoint, [{ name: LOCAL_NETWORK, direct: found }]);
    if (this.#isIsolationWanted || this.#lanAddresses.size === MOST_TOGETHER) this.#isolate();
  }

  #add(endpoint: LocalEndpoint, routes: readonly Route[]): void {
    const peer = {
      publicKey: this.#publicKey,
      direct: routes.flatMap(({ direct }) => direct ?? []),
      relay: routes.find(({ relay }) => relay)?.relay,
    };
    this.#race.add(routes.map(({ name }) => name), (raceEnded) => {
      const signal = AbortSignal.any([this.#limit, raceEnded]);
      return connectWithFirst(endpoint, peer, this.#alpns, signal);
    });
  }

  /** Why an attempt failed, for people. */
  #describeFailure(error: unknown): string {
    debug(() => `an attempt failed: ${reasonFor(error, this.#limitMs)}`);
    if (isDialError(error, "invalid-key")) this.#race.giveUp(error); // it is the same on every way
    if (isDialError(error, "key-mismatch")) this.#isolate();
    return reasonFor(error, this.#limitMs);
  }

  /**
   * Tries each way again, with a socket of its own. For an endpoint sends to all addresses that it has
   * ever been told of a peer, and takes the first that answers: one that lies, or is out of date, and
   * where another endpoint answers, then stands in the way of all the others.
   */
  #isolate(): void {
    this.#isIsolationWanted = true; // as soon as there are two
    if (this.#isIsolated || this.#known.length + this.#lanAddresses.size < 2) return;
    debug(() => "trying each way by itself");
    this.#isIsolated = true;
    for (const route of this.#known) {
      this.#race.add(
        [route.name],
        async (raceEnded) => await this.#connectFrom(await this.#bindFor(route), route, raceEnded),
      );
    }
    this.#browser?.resetTried();
    this.#fillSlots();
  }

  /** Tries more of what is found on the local network, as far as there are places. */
  #fillSlots(): void {
    const browser = this.#browser;
    if (!browser || !this.#isIsolated || this.#disposed || this.#limit.aborted) return;
    while (this.#slots < MOST_SLOTS) {
      const address = browser.next();
      if (address === undefined) return;
      this.#slots++;
      this.#lanAddresses.add(address);
      this.#race.add([LOCAL_NETWORK], (raceEnded) => this.#tryInSlot(browser, address, raceEnded));
    }
    if (!browser.hasNext) return;
    for (const slot of this.#overdue.splice(0)) slot.abort(SLOT_EXPIRED);
  }

  /** Tries one address of the local network until it fails, or has had its time and others wait. */
  async #tryInSlot(
    browser: MdnsBrowser,
    address: string,
    raceEnded: AbortSignal,
  ): Promise<Connection> {
    const route = { name: LOCAL_NETWORK, direct: [address] };
    const slot = new AbortController();
    this.#after(SLOT_MS, () => {
      if (browser.hasNext) slot.abort(SLOT_EXPIRED);
      else this.#overdue.push(slot);
    });
    const signal = AbortSignal.any([raceEnded, slot.signal]);
    const endpoint = await this.#bindFor(route).catch((error) => {
      this.#slots--;
      throw new Error(systemReason(error), { cause: error }); // of this one alone
    });
    try {
      return await this.#connectFrom(endpoint, route, signal);
    } catch (error) {
      const closed = close(endpoint).then(() => {
        this.#endpoints.delete(endpoint);
        this.#slots--;
        this.#fillSlots();
      });
      // The next one is to be under way before this one has failed: the race is over when all have.
      if (browser.hasNext) await abortable(closed, this.#limit).catch(() => {}); // it fails as it would
      throw error;
    }
  }

  /** An endpoint that knows no other way. */
  #bindFor({ relay, lookup = false }: Route): Promise<LocalEndpoint> {
    return this.#bind({ relay: relay || lookup ? this.#settings.relay : { kind: "none" }, lookup });
  }

  #connectFrom(endpoint: LocalEndpoint, route: Route, raceEnded: AbortSignal): Promise<Connection> {
    const peer = { publicKey: this.#publicKey, direct: route.direct ?? [], relay: route.relay };
    return connectWithFirst(endpoint, peer, this.#alpns, AbortSignal.any([this.#limit, raceEnded]));
  }

  /** An endpoint, closed at the end unless it has the connection. */
  async #bind({ relay, lookup }: Pick<Settings, "relay" | "lookup">): Promise<LocalEndpoint> {
    // A key of its own: the repository's key is the listener's, and two endpoints with one key would
    // take each other's packets. The port, if one is set, is the listener's, too.
    const bind = this.#settings.bind && withAnyPort(this.#settings.bind);
    // A port that is forwarded leads to the listener; an address alone is that of a router that keeps ports.
    const { external } = this.#settings;
    const externalIp = external !== undefined && isIP(external) !== 0 ? external : undefined;
    const endpoint = await this.#Endpoint.bind({ relay, lookup, bind, external: externalIp });
    if (this.#disposed) close(endpoint);
    else this.#endpoints.add(endpoint);
    return endpoint;
  }

  #after(milliseconds: number, action: () => void): void {
    this.#timers.push(setTimeout(action, milliseconds));
  }
}

/** Not to be waited for at the end: it may take a second that a caller of git-annex would wait, too. */
async function close(endpoint: LocalEndpoint): Promise<void> {
  await endpoint[Symbol.asyncDispose]().catch((error) => debug(() => `closing a socket: ${error}`));
}

/** Connects with the first protocol that the peer speaks, at the cost of a round trip for each. */
async function connectWithFirst(
  endpoint: LocalEndpoint,
  peer: PeerAddress,
  [alpn, ...others]: readonly string[],
  signal: AbortSignal,
): Promise<Connection> {
  try {
    return await endpoint.connect(peer, alpn!, signal);
  } catch (error) {
    if (others.length === 0 || !isDialError(error, "alpn-mismatch")) throw error;
    debug(() => `${alpn}: ${reasonFor(error)}`);
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
  const tried = [...outcomes].map(([route, outcome]) => `${route} (${outcome})`);
  return new Unreachable(`cannot reach the peer; tried ${tried.join(", ")}`, {
    hint: "is git annex remotedaemon running there, and is it online?",
    cause,
  });
}

/** By which of the ways a connection has come about, going by the path it is on. */
function routeLabel(connection: Connection, routes: readonly Route[]): string {
  const { kind, address } = connection.path ?? { kind: undefined, address: "" };
  const route = routes.find(({ direct, relay }) =>
    kind === "relay" ? relay === address : direct?.includes(address)
  );
  if (route) {
    return route.direct?.length === 1 && route.name === address ? "its address" : route.name;
  }
  // To an address that neither the ticket nor the local network knew, by somebody who did.
  const told = routes.find(({ lookup }) => lookup) ?? routes.find(({ relay }) => relay);
  return told?.name ?? routes[0]!.name;
}

/** By its parts: the class lives in a module that is only loaded when it is needed. */
function isDialError(error: unknown, kind: DialError["kind"]): boolean {
  return error instanceof Error && error.name === "DialError" &&
    (error as DialError).kind === kind;
}

function reasonFor(error: unknown, limitMs = DIAL_LIMIT_MS): string {
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return `no answer within ${limitMs / 1000} s`;
  }
  return error instanceof Failure ? error.message : systemReason(error);
}
