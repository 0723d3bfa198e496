/**
 * Keeps a listener that has several relays at its home relay, the one in its address. Only while that relay is
 * down, the listener uses another. Peers that know only the address try no other relay.
 *
 * iroh itself takes the relay that answers first, stays there, and does not notice that the only relay it knows
 * is down. It is therefore told of the home relay alone, and of the others only while the home relay does not
 * answer. It moves in less than 0.5 s. Connections through a relay that is removed go on (seen for 80 s).
 */

import { abortable, delay, LinkedSignal } from "../async/abort.ts";
import type { RelaySetting } from "../repository/settings.ts";
import { debug } from "../console/stderr.ts";

/** Interval between pings of the home relay, the same as of iroh's heartbeat on a connection. */
const PING_INTERVAL_MS = 5_000;
/** Timeout for the answer of a relay: several round trips round the world, TLS included. */
const PING_TIMEOUT_MS = 3_000;
/** Maximum pings that the home relay answers while the endpoint does not connect to it. 0.4 s are usual. */
const MAX_STRAYS = 3;
/** Pings for which such a relay is not used: 1 minute at first, twice as many each time, at most 1 hour. */
const DISTRUSTED_PINGS = 12, MAX_DISTRUSTED_PINGS = 720;

/**
 * Maximum times that iroh is told of the other relays. If it has just looked at its relays, it can miss the first
 * time, and would look again only 20 to 26 s later.
 */
const MAX_TELLINGS = 2;

/** What is needed of an endpoint. */
export interface RelayedEndpoint {
  /** Returns the relay that it uses at present. */
  addresses(): { readonly relay: string | undefined };
  addRelay(url: string): Promise<void>;
  removeRelay(url: string): Promise<void>;
}

/** The relays of an endpoint, by URL. */
export interface HomeRelay {
  /** The relay to use whenever it is up. */
  readonly home: string;
  /** The relays to use while it is down; at least one. */
  readonly others: readonly string[];
}

/** Options of {@linkcode keepHomeRelay}, for tests. */
export interface KeepOptions {
  /** Tells whether a relay is up. */
  readonly ping?: (url: string, signal: AbortSignal) => Promise<boolean>;
  readonly pingIntervalMs?: number;
}

/**
 * Chooses the home relay: the one in the repository's address, else the first.
 *
 * @param named URLs of relays in the repository's address.
 * @returns Undefined if there are not several relays.
 */
export function homeRelay(
  setting: RelaySetting,
  named: readonly string[],
): HomeRelay | undefined {
  if (setting.kind !== "custom" || setting.urls.length < 2) return undefined;
  const inAddress = named.map((url) => URL.parse(url)?.href); // in the form of the settings
  const home = setting.urls.find((url) => inAddress.includes(url)) ?? setting.urls[0]!;
  return { home, others: setting.urls.filter((url) => url !== home) };
}

/**
 * Keeps an endpoint at its home relay until the signal is aborted.
 *
 * @param endpoint Bound with the home relay alone.
 */
export async function keepHomeRelay(
  endpoint: RelayedEndpoint,
  { home, others }: HomeRelay,
  signal: AbortSignal,
  { ping = answersPing, pingIntervalMs = PING_INTERVAL_MS }: KeepOptions = {},
): Promise<void> {
  let tellings = 0, strays = 0, distrusted = 0, distrust = DISTRUSTED_PINGS;
  while (!signal.aborted) {
    try {
      const isUp = await ping(home, signal);
      if (signal.aborted) return;
      const { relay } = endpoint.addresses(), isHome = relay === home;
      if (isHome) distrust = DISTRUSTED_PINGS;
      strays = isUp && tellings === 0 && !isHome ? strays + 1 : 0;
      if (strays >= MAX_STRAYS) {
        distrusted = distrust;
        distrust = Math.min(2 * distrust, MAX_DISTRUSTED_PINGS);
      } else if (distrusted > 0) distrusted--;
      const needsOthers = !isUp || distrusted > 0;
      const isAtOther = relay !== undefined && others.includes(relay);
      if (needsOthers && (tellings === 0 || tellings < MAX_TELLINGS && !isAtOther)) {
        debug(() => `the home relay ${home} is down`);
        for (const url of others) await abortable(endpoint.addRelay(url), signal);
        tellings++;
      } else if (!needsOthers && tellings > 0) {
        debug(() => `the home relay ${home} is up`);
        for (const url of others) await abortable(endpoint.removeRelay(url), signal);
        tellings = 0;
      }
    } catch (error) {
      if (!signal.aborted) debug(() => `choosing a relay: ${error}`); // tried again after the next ping
    }
    await delay(pingIntervalMs, signal).catch(() => {}); // aborted: the loop ends
  }
}

/**
 * Tells whether a relay answers the request by which iroh measures its round-trip time. Each request has its own
 * connection: a kept one may be dead since this host moved to another network, and HTTP/2 would go on using it.
 * Never rejects.
 */
export async function answersPing(relay: string, signal: AbortSignal): Promise<boolean> {
  using ended = new LinkedSignal([signal], { milliseconds: PING_TIMEOUT_MS });
  try {
    using client = Deno.createHttpClient({ http2: false });
    const options = { client, redirect: "manual", signal: ended.signal } as const;
    const response = await fetch(new URL("/ping", relay), options);
    await response.body?.cancel();
    return response.ok;
  } catch (error) {
    debug(() => `${relay} does not answer: ${error}`);
    return false;
  }
}
