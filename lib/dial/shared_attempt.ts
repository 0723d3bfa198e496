/** The first stage of a dial: one endpoint tries all routes at once. */

import { delay } from "../async/abort.ts";
import type { Race } from "../async/race.ts";
import type { MdnsBrowser } from "../discovery/mdns.ts";
import type { Connection, LocalEndpoint } from "../iroh/connection.ts";
import { connectOn, type DialTarget } from "./attempt.ts";
import { type Route, routeName } from "./route.ts";

/**
 * Delay before the attempt at what the look-up has found. A look-up takes about this long, and begins with
 * any other route that the endpoint tries.
 */
const LOOKUP_DELAY_MS = 300;
/**
 * Maximum number of addresses on the local network that the shared endpoint tries. A peer has a few, so a
 * larger number contains lies.
 */
const MAX_LAN_ADDRESSES = 64;

/** Tries all routes from one endpoint, in as few connections as iroh-js permits. */
export class SharedAttempt {
  readonly #endpoint: LocalEndpoint;
  readonly #target: DialTarget;
  readonly #race: Race<Connection>;
  readonly #lanAddresses: Set<string>;
  readonly #lookupDelayMs: number;

  /** @param lanAddresses Takes up the addresses on the local network that are tried. */
  constructor(
    endpoint: LocalEndpoint,
    target: DialTarget,
    race: Race<Connection>,
    lanAddresses: Set<string>,
    { lookupDelayMs = LOOKUP_DELAY_MS }: { readonly lookupDelayMs?: number } = {},
  ) {
    this.#endpoint = endpoint;
    this.#target = target;
    this.#race = race;
    this.#lanAddresses = lanAddresses;
    this.#lookupDelayMs = lookupDelayMs;
  }

  /** Tries the routes that are known at the start in one attempt, so that the peer sees one connection. */
  addKnown(routes: readonly Route[]): void {
    const [relay, ...moreRelays] = routes.filter(({ kind }) => kind === "relay");
    const together = routes.filter((route) => route.direct || route === relay);
    if (together.length > 0) this.#add(together);
    for (const relay of moreRelays) this.#add([relay]); // iroh-js takes one relay per attempt
    const lookup = routes.find(({ kind }) => kind === "lookup");
    if (!lookup) return;
    if (together.length === 0) return this.#add([lookup]);
    const release = this.#race.reserve(routeName(lookup), "no answer");
    delay(this.#lookupDelayMs, this.#target.signal)
      .then(() => this.#add([lookup]), () => {}) // the dial is over
      .finally(release);
  }

  /** Tries what the browser has found since the last call. */
  addFound(browser: Pick<MdnsBrowser, "next">): void {
    const found: string[] = [];
    while (!this.isFull) {
      const address = browser.next();
      if (address === undefined) break;
      if (this.#lanAddresses.has(address)) continue; // the browser had forgotten it
      this.#lanAddresses.add(address);
      found.push(address);
    }
    if (found.length > 0) this.#add([{ kind: "local-network", direct: found }]);
  }

  /** True if this endpoint tries as many addresses on the local network as it may. */
  get isFull(): boolean {
    return this.#lanAddresses.size >= MAX_LAN_ADDRESSES;
  }

  #add(routes: readonly Route[]): void {
    this.#race.add(
      routes.map(routeName),
      (raceEnded) => connectOn(this.#endpoint, routes, this.#target, raceEnded),
    );
  }
}
