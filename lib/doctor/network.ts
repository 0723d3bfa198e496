/** Checks what the network lets through. */

import { delay } from "../async/abort.ts";
import { Failure } from "../console/failure.ts";
import { interfaces } from "../platform/network_interfaces.ts";
import { Multicast } from "../discovery/mdns_sockets.ts";
import type { Endpoint } from "../iroh/endpoint.ts";
import { loadIroh } from "../iroh/load.ts";
import { relayTokenPath, withRelayToken } from "../repository/relay_token.ts";
import type { Repository } from "../repository/repository.ts";
import type { RelaySetting, Settings } from "../repository/settings.ts";
import { splitSocketAddress, withAnyPort } from "../platform/socket_address.ts";
import { failure, type Finding, ok, warning } from "./finding.ts";

/** Timeout for a relay to accept this machine: DNS, TLS, and a retry. */
const RELAY_TIMEOUT_MS = 10_000;
/** Timeout for a relay to report the public address, or its time, which takes it a round trip or two. */
const ANSWER_TIMEOUT_MS = 3_000;
/** Timeout for a multicast packet to come back, after sockets have joined their groups. */
const MULTICAST_TIMEOUT_MS = 2_000;
/** Interval between looks at what has come. */
const POLL_INTERVAL_MS = 50;
/** Maximum error of the clock that TLS certificates and signed records tolerate. */
const MAX_CLOCK_ERROR_MS = 5 * 60_000;
/** Year of this version. A clock that shows an earlier one was never set. */
const EARLIEST_YEAR = 2026;

/** What has been found out about a relay. */
interface CheckedRelay {
  readonly finding: Finding;
  readonly endpoint: Endpoint;
  /** URL of a relay that accepts this machine. */
  readonly accepting?: string;
}

/** Checks each relay of the settings and, with one that accepts this machine, UDP and clock. */
export async function checkRelayed(plain: Settings, repository: Repository): Promise<Finding[]> {
  await using endpoints = new AsyncDisposableStack();
  let settings: Settings, relays: CheckedRelay[];
  try {
    settings = await withRelayToken(plain, repository);
    const { Endpoint } = await loadIroh();
    // A new key and any port, since the listener uses those of the repository.
    const bind = plain.bind && withAnyPort(plain.bind);
    relays = await Promise.all(
      eachAlone(settings.relay).map(async (relay) => {
        const endpoint = endpoints.use(await Endpoint.bind({ relay, lookup: false, bind }));
        return await checkRelay(endpoint, relay, relayTokenPath(repository));
      }),
    );
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return [failure(error.message, error.hint ?? "is there a network?"), checkClock()];
  }
  const used = relays.find(({ accepting }) => accepting !== undefined);
  const findings = [
    ...relays.map(({ finding }) =>
      used && finding.todo ? { ...finding, state: "warning" } as const : finding
    ),
    ...await checkTokenFile(settings.relay),
  ];
  if (!used) return [...findings, checkClock()];
  return [
    ...findings,
    await checkUdp(used.endpoint, settings),
    await checkClockBy(used.accepting!),
  ];
}

/** Returns a setting for each relay, since iroh connects only to the one that answers first. */
function eachAlone(setting: RelaySetting): RelaySetting[] {
  return setting.kind === "custom"
    ? setting.urls.map((url) => ({ ...setting, urls: [url] }))
    : [setting];
}

/** Checks one relay, or iroh's public ones. @param tokenPath Where the user can put a token. */
async function checkRelay(
  endpoint: Endpoint,
  setting: RelaySetting,
  tokenPath: string,
): Promise<CheckedRelay> {
  if (setting.kind === "none") {
    return { finding: ok("UDP sockets can be opened; relays are off, relay = none"), endpoint };
  }
  const isAccepted = await endpoint.online(AbortSignal.timeout(RELAY_TIMEOUT_MS))
    .then(() => true, () => false);
  const { relay } = endpoint.addresses(),
    token = setting.kind === "custom" ? setting.token : undefined;
  if (!relay) return { finding: noRelay(setting), endpoint };
  const sent = token?.forRelay(relay) !== undefined;
  if (isAccepted) {
    const what = sent ? `relay ${relay} accepts the token in ${token!.path}` : `relay ${relay}`;
    return { finding: ok(what), endpoint, accepting: relay };
  }
  const todo = sent
    ? `correct the token in ${token!.path}`
    : token
    ? "the token is sent only by https:// or to 127.0.0.1; give the relay a certificate"
    : `if it demands a token, write that into ${tokenPath}`;
  return { finding: failure(`relay ${relay} does not accept this machine`, todo), endpoint };
}

function noRelay(setting: RelaySetting): Finding {
  const which = setting.kind === "custom" ? setting.urls.join(", ") : "iroh's public relays";
  const seconds = RELAY_TIMEOUT_MS / 1000;
  return failure(
    `no relay answers within ${seconds} s, ${which}`,
    "is this machine online, and does its firewall let HTTPS out?",
  );
}

/** Checks that only the user can read the token. */
async function checkTokenFile(setting: RelaySetting): Promise<Finding[]> {
  const path = setting.kind === "custom" ? setting.token?.path : undefined;
  if (path === undefined || Deno.build.os === "windows") return [];
  const { mode } = await Deno.stat(path);
  if ((mode! & 0o077) === 0) return [];
  return [warning(`others may read the relay token file ${path}`, `run chmod 600 ${path}`)];
}

async function checkUdp(endpoint: Endpoint, { external }: Settings): Promise<Finding> {
  if (external !== undefined) {
    return ok(`peers see this machine at ${external}, by the setting external`);
  }
  const local = new Set(interfaces().flatMap(({ addresses }) => addresses));
  const seen = await poll(
    ANSWER_TIMEOUT_MS,
    () =>
      endpoint.addresses().direct.find((address) => !local.has(splitSocketAddress(address).host)),
  );
  if (seen) return ok(`UDP gets out, peers see this machine at ${seen}`);
  return warning(
    "cannot tell whether UDP gets out: the relay reports no public address",
    "let the firewall pass UDP, and behind a router set p2p-iroh.external",
  );
}

/** Compares the clock with that of a relay, without TLS, which fails if the clock is wrong. */
async function checkClockBy(relay: string): Promise<Finding> {
  const url = new URL("/generate_204", relay.replace(/^https:/, "http:"));
  const now = () => new Date().toISOString();
  let theirs: number;
  try {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const response = await fetch(url, { redirect: "manual", signal });
    await response.body?.cancel();
    theirs = Date.parse(response.headers.get("date") ?? "");
  } catch {
    theirs = NaN; // a relay need not serve this path
  }
  if (Number.isNaN(theirs)) {
    return warning(`the clock says ${now()}, the relay reports no time`, "check the clock");
  }
  const error = Date.now() - theirs;
  if (Math.abs(error) < MAX_CLOCK_ERROR_MS) return ok("the clock agrees with that of the relay");
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

/** Checks that a packet to a multicast group comes back. */
export async function checkMulticast({ lan }: Settings): Promise<Finding> {
  if (!lan) return ok("the local network is not used, lan = false");
  const joined = new Set<string>(), asked = new Set<string>();
  let heard = false;
  using multicast = new Multicast({
    received: () => void (heard = true),
    joined: ({ name }) => void joined.add(name),
  });
  await poll(MULTICAST_TIMEOUT_MS, () => {
    if (asked.size < joined.size) {
      multicast.query({ questions: [{ name: "_irohv1._udp.local", type: "PTR" }] });
      joined.forEach((name) => asked.add(name));
    }
    return heard || undefined;
  });
  if (heard) return ok("multicast can be sent and received on this machine");
  return warning(
    "multicast does not work, so peers on the local network are not found",
    "is a network up, and does the firewall let UDP port 5353 through?",
  );
}

/** Calls `look` until it returns a value. @returns That value; undefined after the timeout. */
async function poll<T>(timeoutMs: number, look: () => T | undefined): Promise<T | undefined> {
  const timeout = AbortSignal.timeout(timeoutMs);
  for (;;) {
    const found = look();
    if (found !== undefined || timeout.aborted) return found;
    await delay(POLL_INTERVAL_MS, timeout).catch(() => {}); // the timeout: one more look
  }
}
