/**
 * Of several relays of the user's own a listener is at the one that its address names whenever that is
 * up, and at another only while it is not: peers that have the address alone look nowhere else.
 *
 * iroh itself takes the relay that answers soonest, stays there, and does not notice that the only one
 * it knows is away. So it knows the home relay alone, as long as that answers, and the others besides as
 * long as it does not. Both take it less than half a second; what goes on through a relay that it is
 * made to forget goes on (seen for 80 s), and peers are reached through it.
 */

import { abortable, delay } from "../async/abort.ts";
import type { RelaySetting } from "../repository/settings.ts";
import { debug } from "../console/stderr.ts";

/** Between two questions to the home relay. iroh says as often to each peer that it is there. */
const ASK_EVERY_MS = 5_000;
const ASK_LIMIT_MS = 3_000;
/** Looks at an endpoint that knows a relay that answers alone, and yet is not there; 0.4 s are usual. */
const MOST_STRAYS = 3;
/** Looks before such a relay is trusted again: a minute, then twice as long each time, an hour at most. */
const LOOKS_AFTER_STRAY = 12, MOST_LOOKS_AFTER_STRAY = 720;

/** What is needed of an endpoint. */
export interface AtRelays {
  /** Where it is at present. */
  addresses(): { readonly relay: string | undefined };
  addRelay(url: string): Promise<void>;
  removeRelay(url: string): Promise<void>;
}

/** Where an endpoint is to be, and where else if it cannot be there. */
export interface HomeRelay {
  readonly home: string;
  /** At least one. */
  readonly others: readonly string[];
}

/** What may be otherwise. */
export interface KeepOptions {
  /** Whether a relay is up. */
  readonly ask?: (url: string, signal: AbortSignal) => Promise<boolean>;
  readonly everyMs?: number;
}

/**
 * The home relay of several; undefined where there is none to choose.
 *
 * @param named URLs of relays in the repository's address.
 */
export function homeRelay(
  setting: RelaySetting,
  named: readonly string[],
): HomeRelay | undefined {
  if (setting.kind !== "custom" || setting.urls.length < 2) return undefined;
  const inAddress = named.map((url) => URL.parse(url)?.href); // as settings have them
  const home = setting.urls.find((url) => inAddress.includes(url)) ?? setting.urls[0]!;
  return { home, others: setting.urls.filter((url) => url !== home) };
}

/**
 * Keeps an endpoint at its home relay until the signal is aborted.
 *
 * @param endpoint Bound with the home relay alone.
 */
export async function keepHomeRelay(
  endpoint: AtRelays,
  { home, others }: HomeRelay,
  signal: AbortSignal,
  { ask = answers, everyMs = ASK_EVERY_MS }: KeepOptions = {},
): Promise<void> {
  let hasOthers = false, strays = 0, distrusted = 0, distrust = LOOKS_AFTER_STRAY;
  while (!signal.aborted) {
    try {
      const isUp = await ask(home, signal);
      if (signal.aborted) return;
      const isHome = endpoint.addresses().relay === home;
      if (isHome) distrust = LOOKS_AFTER_STRAY;
      strays = isUp && !hasOthers && !isHome ? strays + 1 : 0;
      if (strays >= MOST_STRAYS) {
        distrusted = distrust;
        distrust = Math.min(2 * distrust, MOST_LOOKS_AFTER_STRAY);
      } else if (distrusted > 0) distrusted--;
      const needsOthers = !isUp || distrusted > 0;
      if (needsOthers !== hasOthers) {
        debug(() => `the home relay ${home} is ${needsOthers ? "away" : "there"}`);
        for (const url of others) {
          const change = needsOthers ? endpoint.addRelay(url) : endpoint.removeRelay(url);
          await abortable(change, signal);
        }
        hasOthers = needsOthers;
      }
    } catch (error) {
      if (!signal.aborted) debug(() => `choosing a relay: ${error}`); // and again at the next look
    }
    await delay(everyMs, signal).catch(() => {}); // stopped: the loop ends
  }
}

/**
 * Whether a relay answers what iroh itself asks, to see how far it is. On a connection of its own: one
 * that was kept may be dead since this host moved to another network, and with HTTP/2 stays in use.
 */
async function answers(relay: string, signal: AbortSignal): Promise<boolean> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(ASK_LIMIT_MS)]);
  using client = Deno.createHttpClient({ http2: false });
  const options = { client, redirect: "manual", signal: limit } as const;
  try {
    const response = await fetch(new URL("/ping", relay), options);
    await response.body?.cancel();
    return response.ok;
  } catch (error) {
    debug(() => `${relay} does not answer: ${error}`);
    return false;
  }
}
