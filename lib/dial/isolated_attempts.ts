/**
 * The second stage of a dial: each route is tried from a socket of its own.
 *
 * An endpoint sends to every address that it was ever given for a peer, and takes the first answer. If another
 * endpoint answers at a false or outdated address, the shared endpoint therefore never reaches the peer.
 */

import { abortable, delay } from "../async/abort.ts";
import type { Race } from "../async/race.ts";
import { systemReason } from "../console/failure.ts";
import type { MdnsBrowser } from "../discovery/mdns.ts";
import type { Connection, LocalEndpoint } from "../iroh/connection.ts";
import { giveBackLargeBlocks } from "../platform/malloc.ts";
import { connectOn, type DialTarget } from "./attempt.ts";
import type { DialEndpoints } from "./dial_endpoints.ts";
import { type Route, routeName } from "./route.ts";

/** Maximum number of addresses on the local network that are tried at once, each with a socket. */
const MAX_SLOTS = 64;
/** Timeout for an attempt that holds a slot while other addresses wait. A peer answers in milliseconds. */
const SLOT_TIMEOUT_MS = 1_000;

/** What {@linkcode IsolatedAttempts} needs of the search on the local network. */
export type LanSearch = Pick<MdnsBrowser, "next" | "hasNext" | "resetTried">;

/** Tries each route from an endpoint of its own. */
export class IsolatedAttempts {
  readonly #endpoints: DialEndpoints;
  readonly #target: DialTarget;
  readonly #race: Race<Connection>;
  readonly #lanAddresses: Set<string>;
  readonly #browser: LanSearch | undefined;
  readonly #slotTimeoutMs: number;
  readonly #slotExpired: Error;
  /** Slots that are taken. One is free again when its endpoint is closed, some seconds after the attempt. */
  #slots = 0;
  /** Attempts that have had their time, and go on as long as no address waits. */
  #overdue: AbortController[] = [];

  /**
   * @param lanAddresses Takes up the addresses on the local network that are tried.
   * @param browser Undefined if the local network is not searched.
   */
  constructor(
    endpoints: DialEndpoints,
    target: DialTarget,
    race: Race<Connection>,
    lanAddresses: Set<string>,
    browser: LanSearch | undefined,
    { slotTimeoutMs = SLOT_TIMEOUT_MS }: { readonly slotTimeoutMs?: number } = {},
  ) {
    this.#endpoints = endpoints;
    this.#target = target;
    this.#race = race;
    this.#lanAddresses = lanAddresses;
    this.#browser = browser;
    this.#slotTimeoutMs = slotTimeoutMs;
    this.#slotExpired = new Error(`no answer within ${slotTimeoutMs / 1000} s, and others wait`);
  }

  /** Tries the known routes again, and on the local network every address again. */
  start(known: readonly Route[]): void {
    giveBackLargeBlocks(); // each endpoint reserves more than 1 MB, and hundreds may come and go
    for (const route of known) {
      this.#race.add([routeName(route)], async (raceEnded) => {
        const endpoint = await this.#endpoints.bindFor(route);
        return await connectOn(endpoint, [route], this.#target, raceEnded);
      });
    }
    this.#browser?.resetTried();
    this.fillSlots();
  }

  /** Tries addresses that wait on the local network, as long as there are free slots. */
  fillSlots(): void {
    const browser = this.#browser;
    if (!browser || this.#target.signal.aborted) return;
    while (this.#slots < MAX_SLOTS) {
      const address = browser.next();
      if (address === undefined) return;
      this.#slots++;
      this.#lanAddresses.add(address);
      const route: Route = { kind: "local-network", direct: [address] };
      this.#race.add(
        [routeName(route)],
        (raceEnded) => this.#connectInSlot(browser, route, raceEnded),
      );
    }
    if (!browser.hasNext) return;
    for (const slot of this.#overdue.splice(0)) slot.abort(this.#slotExpired);
  }

  /** Tries one address until it fails, or has had its time and others wait. */
  async #connectInSlot(
    browser: LanSearch,
    route: Route,
    raceEnded: AbortSignal,
  ): Promise<Connection> {
    const slot = new AbortController();
    delay(this.#slotTimeoutMs, this.#target.signal).then(() => {
      if (browser.hasNext) slot.abort(this.#slotExpired);
      else this.#overdue.push(slot);
    }, () => {}); // the dial is over
    const endpoint = await this.#bindInSlot(route);
    try {
      const ended = AbortSignal.any([raceEnded, slot.signal]);
      return await connectOn(endpoint, [route], this.#target, ended);
    } catch (error) {
      const isNextStarted = this.#endpoints.close(endpoint).then(() => {
        this.#slots--;
        this.fillSlots();
      });
      // The race is over when all attempts have failed, so the next one has to be under way before.
      if (browser.hasNext) await abortable(isNextStarted, this.#target.signal).catch(() => {}); // error says it
      throw error;
    }
  }

  async #bindInSlot(route: Route): Promise<LocalEndpoint> {
    try {
      return await this.#endpoints.bindFor(route);
    } catch (error) {
      this.#slots--;
      // Not a BindError, which would end the dial: it can do with one socket less.
      throw new Error(systemReason(error), { cause: error });
    }
  }
}
