/** Whether the network lets this program through. */

import { delay } from "../async/abort.ts";
import { Failure } from "../console/failure.ts";
import { interfaces } from "../platform/network_interfaces.ts";
import { Multicast } from "../discovery/mdns_sockets.ts";
import type { Endpoint } from "../iroh/endpoint.ts";
import { loadIroh } from "../iroh/load.ts";
import type { Settings } from "../repository/settings.ts";
import { splitSocketAddress, withAnyPort } from "../platform/socket_address.ts";
import { failure, type Finding, ok, warning } from "./finding.ts";

const RELAY_LIMIT_MS = 10_000;
/** A relay that tells addresses does so within a round trip or two. */
const ADDRESS_LIMIT_MS = 3_000;
const MULTICAST_LIMIT_MS = 2_000;
const LOOK_MS = 50;
/** TLS and signed records allow for some minutes. */
const MOST_CLOCK_ERROR_MS = 5 * 60_000;
/** Before this version was made: a clock that says so has lost its battery. */
const EARLIEST_YEAR = 2026;

/** Relay, UDP and clock, which are found out together. */
export async function checkRelayed(settings: Settings): Promise<Finding[]> {
  let endpoint: Endpoint;
  try {
    const { Endpoint } = await loadIroh();
    // With a key of its own, and on a port of its own: the repository's are the listener's.
    const bind = settings.bind && withAnyPort(settings.bind);
    endpoint = await Endpoint.bind({ relay: settings.relay, lookup: false, bind });
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return [failure(error.message, error.hint ?? "is there a network?"), checkClock()];
  }
  await using _endpoint = endpoint;
  if (settings.relay.kind === "none") {
    return [ok("UDP sockets can be had"), ok("relays are off, relay = none"), checkClock()];
  }
  const relay = await within(RELAY_LIMIT_MS, () => endpoint.addresses().relay);
  if (!relay) return [noRelay(settings), checkClock()];
  return [ok(`relay ${relay}`), await checkUdp(endpoint, settings), await checkClockBy(relay)];
}

function noRelay({ relay }: Settings): Finding {
  const which = relay.kind === "custom" ? relay.urls.join(", ") : "of those that iroh runs";
  const seconds = RELAY_LIMIT_MS / 1000;
  return failure(
    `no relay is reached within ${seconds} s, ${which}`,
    "is this machine online, and does its firewall let HTTP out to there?",
  );
}

async function checkUdp(endpoint: Endpoint, { external }: Settings): Promise<Finding> {
  if (external !== undefined) return ok(`others see this machine at ${external}, as is set`);
  const local = new Set(interfaces().flatMap(({ addresses }) => addresses));
  const seen = await within(
    ADDRESS_LIMIT_MS,
    () =>
      endpoint.addresses().direct.find((address) => !local.has(splitSocketAddress(address).host)),
  );
  if (seen) return ok(`UDP gets out, others see this machine at ${seen}`);
  return warning(
    "whether UDP gets through is not to be known, the relay does not say how it sees this machine",
    "allow UDP out; behind a router, where the relay tells no addresses, set p2p-iroh.external",
  );
}

/** The clock, beside that of a relay, asked without TLS, which a wrong clock would break. */
async function checkClockBy(relay: string): Promise<Finding> {
  const url = new URL("/generate_204", relay.replace(/^https:/, "http:"));
  const now = () => new Date().toISOString();
  let theirs: number;
  try {
    const signal = AbortSignal.timeout(ADDRESS_LIMIT_MS);
    const response = await fetch(url, { redirect: "manual", signal });
    await response.body?.cancel();
    theirs = Date.parse(response.headers.get("date") ?? "");
  } catch {
    theirs = NaN; // a relay need not answer that
  }
  if (Number.isNaN(theirs)) {
    return warning(`the clock says ${now()}, the relay says nothing`, "see that it is right");
  }
  const error = Date.now() - theirs;
  if (Math.abs(error) < MOST_CLOCK_ERROR_MS) return ok("the clock is right, by that of the relay");
  const minutes = Math.round(Math.abs(error) / 60_000);
  return failure(
    `the clock is ${minutes} minutes ${error > 0 ? "ahead of" : "behind"} that of the relay`,
    "set it, or let NTP do so",
  );
}

function checkClock(): Finding {
  const now = new Date();
  if (now.getUTCFullYear() >= EARLIEST_YEAR) return ok(`the clock says ${now.toISOString()}`);
  return failure(`the clock says ${now.toISOString()}`, "set it, or let NTP do so");
}

/** Whether what is sent to a multicast group comes back. */
export async function checkMulticast({ lan }: Settings): Promise<Finding> {
  if (!lan) return ok("the local network is not looked at, lan = false");
  const joined = new Set<string>(), asked = new Set<string>();
  let heard = false;
  using multicast = new Multicast({
    received: () => void (heard = true),
    joined: ({ name }) => void joined.add(name),
  });
  await within(MULTICAST_LIMIT_MS, () => {
    if (asked.size < joined.size) {
      multicast.query({ questions: [{ name: "_irohv1._udp.local", type: "PTR" }] });
      joined.forEach((name) => asked.add(name));
    }
    return heard || undefined;
  });
  if (heard) return ok("multicast can be sent and received on this machine");
  return warning(
    "multicast does not work, so peers on the local network are not found by themselves",
    "is a network up, and does the firewall let UDP port 5353 through?",
  );
}

/** The first thing that there is; undefined after a time. */
async function within<T>(limitMs: number, look: () => T | undefined): Promise<T | undefined> {
  const limit = AbortSignal.timeout(limitMs);
  for (;;) {
    const found = look();
    if (found !== undefined || limit.aborted) return found;
    await delay(LOOK_MS, limit).catch(() => {}); // looked at once more
  }
}
