/**
 * The second stage of a dial: each route is tried from a socket of its own.
 *
 * An endpoint sends to every address that it was ever given for a peer, and takes the first answer. If another
 * endpoint answers at a false or outdated address, the shared endpoint therefore never reaches the peer.
 *
 * A socket costs some milliseconds of the processor, so hundreds take longer than a dial may, if the machine is busy.
 * If many addresses wait, each socket first tries a group of them. Most are wrong addresses at which nothing answers,
 * and do not disturb the others. If a group does not reach the peer, each of its addresses is tried by itself.
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

/** Maximum number of sockets on the local network at once. */
const MAX_SLOTS = 64;
/** Number of groups for what waits on the local network. It leaves most slots to what is found later. */
const GROUPS = 16;
/**
 * Timeout for an attempt of a group, or of one that holds a slot while other addresses wait. It begins when the socket
 * is open. A peer answers in milliseconds.
 */
const SLOT_TIMEOUT_MS = 1_000;

/** What {@linkcode IsolatedAttempts} needs of the search on the local network. */
export type LanSearch = Pick<MdnsBrowser, "next" | "waiting" | "resetTried">;

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
  /** Addresses that are no longer tried in a group, since one has failed. */
  #ungrouped = new Set<string>();

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
    const size = Math.ceil(browser.waiting / GROUPS);
    while (this.#slots < MAX_SLOTS && browser.waiting > 0) {
      const addresses = takeNext(browser, Math.min(size, MAX_SLOTS - this.#slots));
      const group = addresses.filter((address) => !this.#ungrouped.has(address));
      if (group.length > 0) this.#add(browser, group);
      for (const address of addresses) {
        if (this.#ungrouped.has(address)) this.#add(browser, [address]);
      }
    }
    if (browser.waiting === 0) return;
    for (const slot of this.#overdue.splice(0)) slot.abort(this.#slotExpired);
  }

  /** Tries addresses from one socket. */
  #add(browser: LanSearch, addresses: readonly string[]): void {
    this.#slots++;
    for (const address of addresses) this.#lanAddresses.add(address);
    const route: Route = { kind: "local-network", direct: addresses };
    this.#race.add(
      [routeName(route)],
      (raceEnded) => this.#connectInSlot(browser, route, raceEnded),
    );
  }

  /** Tries one address, or a group, until it fails. */
  async #connectInSlot(
    browser: LanSearch,
    route: Route,
    raceEnded: AbortSignal,
  ): Promise<Connection> {
    const endpoint = await this.#bindInSlot(browser, route);
    const slot = new AbortController();
    delay(this.#slotTimeoutMs, this.#target.signal).then(() => {
      if (isGroup(route) || browser.waiting > 0) slot.abort(this.#slotExpired);
      else this.#overdue.push(slot);
    }, () => {}); // the dial is over
    try {
      const ended = AbortSignal.any([raceEnded, slot.signal]);
      return await connectOn(endpoint, [route], this.#target, ended);
    } catch (error) {
      if (isGroup(route)) this.#retryAlone(browser, route);
      const isNextStarted = this.#endpoints.close(endpoint).then(() => {
        this.#slots--;
        this.fillSlots();
      });
      // The race is over when all attempts have failed, so the next one has to be under way before.
      if (browser.waiting > 0) await abortable(isNextStarted, this.#target.signal).catch(() => {}); // error says it
      throw error;
    }
  }

  #retryAlone(browser: LanSearch, { direct = [] }: Route): void {
    for (const address of direct) this.#ungrouped.add(address);
    browser.resetTried(direct);
    this.fillSlots();
  }

  async #bindInSlot(browser: LanSearch, route: Route): Promise<LocalEndpoint> {
    try {
      return await this.#endpoints.bindFor(route);
    } catch (error) {
      this.#slots--;
      if (isGroup(route)) this.#retryAlone(browser, route);
      // Not a BindError, which would end the dial: it can do with one socket less.
      throw new Error(systemReason(error), { cause: error });
    }
  }
}

/** Takes up to `count` addresses that wait. */
function takeNext(browser: LanSearch, count: number): string[] {
  const taken: string[] = [];
  while (taken.length < count) {
    const address = browser.next();
    if (address === undefined) break;
    taken.push(address);
  }
  return taken;
}

function isGroup({ direct = [] }: Route): boolean {
  return direct.length > 1;
}
