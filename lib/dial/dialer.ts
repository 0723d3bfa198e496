/**
 * From an address to a connection: every route to the peer is tried at once, and the first to succeed wins.
 *
 * A dial has two stages. One endpoint tries all routes together (shared_attempt.ts). If another endpoint answers
 * in the peer's place, or the local network does not answer in time, each route gets a socket of its own
 * (isolated_attempts.ts). Attempts of both stages take part in one race.
 */

import { abortable, delay } from "../async/abort.ts";
import { Race } from "../async/race.ts";
import { Failure, reasonFor } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import type { MdnsBrowser } from "../discovery/mdns.ts";
import { findOnSameHost } from "../discovery/same_host.ts";
import type { Connection, LocalEndpoint } from "../iroh/connection.ts";
import { loadIroh } from "../iroh/load.ts";
import { describePath } from "../iroh/path.ts";
import type { Settings } from "../repository/settings.ts";
import { type Ticket, TicketError } from "../repository/ticket.ts";
import { type DialTarget, isDialError } from "./attempt.ts";
import { DialEndpoints } from "./dial_endpoints.ts";
import { DialDeadline, type DialLimits, isOnline, PATIENT_LIMITS } from "./dial_limits.ts";
import { IsolatedAttempts, type LanSearch } from "./isolated_attempts.ts";
import { describeRoute, knownRoutes, type Route, routeName, routeOf } from "./route.ts";
import { SharedAttempt } from "./shared_attempt.ts";
import { Unreachable, type UnreachableOptions } from "./unreachable.ts";

/** Timeout for the first answer on the local network, if no other route is left. Peers answer in milliseconds. */
const LAN_SEARCH_TIMEOUT_MS = 5_000;
/** Timeout for a connection to what was found on the local network. It may be false, and keep out the peer. */
const LAN_CONNECT_TIMEOUT_MS = 2_000;

/**
 * Timeout for that once there are as many addresses as one endpoint tries. Most are false, or the peer is this host
 * and has many interfaces. Then the connection takes milliseconds.
 */
const LAN_FULL_TIMEOUT_MS = 500;

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
  /** By which route the peer was found. */
  readonly route: Route;
}

/** Options of {@linkcode dialPeer}. */
export interface DialOptions {
  /** The endpoint to dial from; by default a new one with a fresh key. */
  readonly from?: LocalEndpoint;
  /** The secret key of new endpoints; by default each has a fresh one. */
  readonly secretKey?: Uint8Array;
  /** By default {@linkcode PATIENT_LIMITS}. */
  readonly limits?: DialLimits;
}

/**
 * Connects to a peer by the route that is the first to succeed.
 *
 * @param alpns Protocols, the preferred one first. If the peer does not speak it, the next is tried.
 * @throws {Unreachable} which says what was tried, and with which outcome.
 * @throws {TicketError} if the ticket's key is invalid.
 * @throws {BindError} if the UDP socket cannot be opened.
 */
export async function dialPeer(
  ticket: Ticket,
  settings: Settings,
  alpns: readonly string[],
  signal: AbortSignal,
  { from, secretKey, limits = PATIENT_LIMITS }: DialOptions = {},
): Promise<DialResult> {
  debug(() => "dialing");
  const loading = loadIroh(); // while the search begins
  using browser = settings.lan ? await browseLan(ticket.publicKey) : undefined;
  const known = knownRoutes(ticket, settings, await findOnSameHost(ticket.publicKey));
  const { Endpoint } = await loading;
  using endpoints = new DialEndpoints(
    settings,
    (options) => Endpoint.bind(secretKey ? { ...options, secretKey } : options),
  );
  using deadline = new DialDeadline(limits, signal);
  const target = { publicKey: ticket.publicKey, alpns, signal: deadline.signal };
  using dial = new Dial(target, known, browser, endpoints);
  try {
    const endpoint = from ?? await endpoints.bindShared();
    deadline.begin(() => isOnline(endpoint, settings, ticket));
    const connection = await abortable(dial.run(endpoint), signal);
    endpoints.release(connection.endpoint);
    const route = routeOf(connection.path, [...known, dial.lanRoute]);
    debug(() => `connected, found by ${describeRoute(route)}, ${describePath(connection.path)}`);
    return { connection, route };
  } catch (error) {
    signal.throwIfAborted();
    if (isDialError(error, "invalid-key")) {
      throw new TicketError("the address is damaged, it names no key");
    }
    if (error instanceof Failure) throw error;
    const verdict = dial.isRefused ? "refused" : deadline.hadTime ? "away" : "unclear";
    throw unreachable(dial.outcomes, { verdict, cause: error });
  }
}

async function browseLan(publicKey: Uint8Array): Promise<MdnsBrowser> {
  const { MdnsBrowser } = await import("../discovery/mdns.ts");
  return new MdnsBrowser(publicKey);
}

function unreachable(
  outcomes: ReadonlyMap<string, string>,
  options: UnreachableOptions,
): Unreachable {
  if (outcomes.size === 0) {
    return new Unreachable("cannot reach the peer, no route to it is known", {
      ...options,
      verdict: "unclear",
      hint:
        "it is not running on this host, its address names neither relay nor socket address, and " +
        "relay, lookup and lan are off",
    });
  }
  const tried = [...outcomes].map(([route, outcome]) => `${route} (${outcome})`);
  return new Unreachable(`cannot reach the peer; tried ${tried.join(", ")}`, {
    ...options,
    hint: "is git annex remotedaemon running there, and is it online?",
  });
}

/** How a dial tries the routes. */
type DialMode =
  /** All from one endpoint. */
  | "shared"
  /** As "shared", and isolated soon, since there are as many addresses as one endpoint tries. */
  | "full"
  /** As "shared", and isolated as soon as there is a second route. */
  | "isolation-pending"
  /** Also each from a socket of its own. */
  | "isolated";

/** What {@linkcode Dial} needs of the search on the local network. */
type DialSearch = LanSearch & Pick<MdnsBrowser, "onFound">;

/** Time limits within a dial; tests pass others. */
export interface DialTimeouts {
  readonly lanSearchMs?: number;
  readonly lanConnectMs?: number;
  readonly lanFullMs?: number;
  readonly lookupDelayMs?: number;
  readonly slotTimeoutMs?: number;
}

/** One dial. Disposed of, it ends every attempt but the one that has won. */
export class Dial implements Disposable {
  readonly #target: DialTarget;
  readonly #known: readonly Route[];
  readonly #browser: DialSearch | undefined;
  readonly #timeouts: DialTimeouts;
  readonly #race: Race<Connection>;
  readonly #isolated: IsolatedAttempts;
  /** Addresses on the local network that have been tried. */
  readonly #lanAddresses = new Set<string>();
  readonly #ended = new AbortController();
  #mode: DialMode = "shared";
  #isRefused = false;

  /** @param browser Undefined if the local network is not to be searched. */
  constructor(
    target: DialTarget,
    known: readonly Route[],
    browser: DialSearch | undefined,
    endpoints: DialEndpoints,
    timeouts: DialTimeouts = {},
  ) {
    const signal = AbortSignal.any([target.signal, this.#ended.signal]);
    this.#target = { ...target, signal };
    this.#known = known;
    this.#browser = browser;
    this.#timeouts = timeouts;
    this.#race = new Race(
      (late) => late.close(0n, "another route was faster"),
      (error) => this.#handleFailure(error),
    );
    this.#isolated = new IsolatedAttempts(
      endpoints,
      this.#target,
      this.#race,
      this.#lanAddresses,
      browser,
      timeouts,
    );
  }

  /** The route of all that was found on the local network. */
  get lanRoute(): Route {
    return { kind: "local-network", direct: [...this.#lanAddresses] };
  }

  /** The outcome of each route. */
  get outcomes(): ReadonlyMap<string, string> {
    return this.#race.outcomes;
  }

  /** True if the peer is there, but accepts no connection now, as far as an attempt has shown. */
  get isRefused(): boolean {
    return this.#isRefused;
  }

  /** Runs the race. @param endpoint The one that tries all routes. @returns Its winner. */
  async run(endpoint: LocalEndpoint): Promise<Connection> {
    const shared = new SharedAttempt(
      endpoint,
      this.#target,
      this.#race,
      this.#lanAddresses,
      this.#timeouts,
    );
    shared.addKnown(this.#known);
    if (this.#browser) this.#searchLan(shared, this.#browser);
    this.#race.seal();
    return await this.#race.winner;
  }

  [Symbol.dispose](): void {
    const over = new Error("the dial is over");
    this.#race.giveUp(over); // without effect if there is a winner
    this.#ended.abort(over);
  }

  #searchLan(shared: SharedAttempt, browser: DialSearch): void {
    const { lanSearchMs = LAN_SEARCH_TIMEOUT_MS } = this.#timeouts;
    const release = this.#race.reserve(routeName(this.lanRoute), "no peer there has its key");
    delay(lanSearchMs, this.#target.signal).catch(() => {}).finally(release); // at the dial's end at the latest
    browser.onFound(() => {
      if (this.#mode === "isolated") this.#isolated.fillSlots();
      else this.#tryFound(shared, browser);
    });
  }

  #tryFound(shared: SharedAttempt, browser: DialSearch): void {
    const isFirst = this.#lanAddresses.size === 0;
    shared.addFound(browser);
    if (isFirst && this.#lanAddresses.size > 0) {
      const { lanConnectMs = LAN_CONNECT_TIMEOUT_MS } = this.#timeouts;
      delay(lanConnectMs, this.#target.signal).then(() => this.#isolate(), () => {}); // the dial is over
    }
    if (this.#mode === "isolation-pending") this.#isolate();
    else if (shared.isFull && this.#mode === "shared") this.#isolateLater();
  }

  /** Tries each route by itself unless the shared endpoint connects soon. */
  #isolateLater(): void {
    this.#mode = "full";
    const { lanFullMs = LAN_FULL_TIMEOUT_MS } = this.#timeouts;
    delay(lanFullMs, this.#target.signal).then(() => this.#isolate(), () => {}); // the dial is over
  }

  /** Tries each route again by itself, if there is more than one. */
  #isolate(): void {
    if (this.#mode === "isolated") return;
    this.#mode = "isolation-pending";
    if (this.#known.length + this.#lanAddresses.size < 2) return;
    debug(() => "trying each route by itself");
    this.#mode = "isolated";
    this.#isolated.start(this.#known);
  }

  /** Draws the conclusions from an attempt's failure. @returns Its reason, for people. */
  #handleFailure(error: unknown): string {
    const reason = reasonFor(error, "no answer in time");
    debug(() => `an attempt failed: ${reason}`);
    if (isDialError(error, "invalid-key")) this.#race.giveUp(error); // the key is invalid on every route
    if (isDialError(error, "key-mismatch")) this.#isolate();
    if (isDialError(error, "refused")) this.#isRefused = true;
    return reason;
  }
}
