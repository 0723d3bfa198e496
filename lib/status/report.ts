/** The report of `status` as an object. docs/status.schema.json describes it for programs. */

import config from "../../deno.json" with { type: "json" };
import { requestStatus } from "../control/client.ts";
import { locateControlSocket, otherVersion } from "../control/locator.ts";
import { knownRoutes, routeName } from "../dial/route.ts";
import { findOnSameHost } from "../discovery/same_host.ts";
import type { ListenerStatus, PeerStatus } from "../listener/snapshot.ts";
import { readLastSeen } from "../listener/last_seen.ts";
import { servingOf } from "../listener/listener_file.ts";
import { presentAddress } from "../repository/address.ts";
import { readSettings, type Repository } from "../repository/repository.ts";
import type { Settings } from "../repository/settings.ts";
import { decodeTicket } from "../repository/ticket.ts";
import { Failure } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { runningUp, type UpStatus } from "../supervisor/entry.ts";
import { irohRemotes } from "../repository/remotes.ts";

/** Number of the format. A format that drops or changes a field gets another number. */
const FORMAT = 1;

/** The process that serves the repository, as far as it is known here. */
type ListenerReport = Omit<ListenerStatus, "peers" | "since" | "pid" | "version"> & {
  /** Name of the host, and whether it is in another container of this one; null if it runs here. */
  readonly elsewhere: string | null;
  /** Null if it runs elsewhere. */
  readonly pid: number | null;
  /** Null if it runs elsewhere, or does not answer. */
  readonly version: string | null;
  readonly since: string | null;
};

/** The report of `status`. */
export interface StatusReport {
  readonly format: typeof FORMAT;
  /** Version of the program. */
  readonly version: string;
  readonly address: string | null;
  readonly listener: ListenerReport | null;
  /** The `up` that keeps the repository served. */
  readonly up: UpStatus | null;
  readonly peers: readonly (PeerStatus & {
    /** Whether it is connected, could not be reached since, or neither is known. */
    readonly state: "here" | "away" | "unknown";
    /** The ways that a new connection would try at once. */
    readonly routes: readonly string[];
    /** Names of the git remotes that have its address. */
    readonly remotes: readonly string[];
    readonly address: string | null;
  })[];
}

/** Status of a peer that the listener does not know. */
const UNKNOWN: Omit<PeerStatus, "key"> = {
  connected: false,
  path: null,
  roundTripMs: null,
  lanes: [],
  sessions: { incoming: 0, outgoing: 0 },
  bytesSent: 0,
  bytesReceived: 0,
  sentPerSecond: 0,
  receivedPerSecond: 0,
  lastSeen: null,
  awaySince: null,
};

/** Collects the report, from the listener if there is one, and from the repository's files. */
export async function statusReport(
  repository: Repository,
  signal: AbortSignal,
): Promise<StatusReport> {
  const address = presentAddress(repository), lastSeen = readLastSeen(repository);
  const [status, remotes, settings] = await Promise.all([
    requestListenerStatus(repository, signal),
    irohRemotes(repository),
    validSettings(),
  ]);
  const known = new Map((status?.peers ?? []).map((peer) => [peer.key, peer]));
  const byKey = Map.groupBy(remotes, ({ publicKey }) => publicKey.toHex());
  // A peer that is no remote is in the report only while it is connected or has moved data.
  const active = [...known.values()].filter((peer) =>
    peer.connected || peer.bytesSent + peer.bytesReceived > 0
  );
  const keys = new Set([...byKey.keys(), ...active.map(({ key }) => key)]);
  const peers = await Promise.all([...keys].map(async (key) => {
    const named = byKey.get(key) ?? [];
    const peer = known.get(key) ?? { key, ...UNKNOWN };
    const state = peer.connected ? "here" : peer.awaySince ? "away" : "unknown";
    return {
      ...peer,
      state,
      lastSeen: peer.lastSeen ?? lastSeen.get(key)?.toISOString() ?? null,
      remotes: named.map(({ name }) => name),
      address: named[0]?.address ?? null,
      routes: named[0] && settings ? await routesTo(named[0].address, settings) : [],
    } as const;
  }));
  return {
    format: FORMAT,
    version: config.version,
    address: address ?? null,
    listener: status ? withoutPeers(status) : await silentListener(repository),
    up: await runningUp(repository) ?? null,
    peers,
  };
}

/** Returns the settings; undefined if they are not valid, about which other commands complain. */
async function validSettings(): Promise<Settings | undefined> {
  try {
    return await readSettings();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    debug(() => `no routes: ${error.message}`);
    return undefined;
  }
}

/** Returns the routes to a remote, by name, as a dial would try them. */
async function routesTo(address: string, settings: Settings): Promise<string[]> {
  const ticket = decodeTicket(address);
  const routes = knownRoutes(ticket, settings, await findOnSameHost(ticket.publicKey));
  return [...routes.map(routeName), ...settings.lan ? ["the local network"] : []];
}

function withoutPeers({ peers: _, ...listener }: ListenerStatus): ListenerReport {
  return { elsewhere: null, ...listener };
}

async function requestListenerStatus(
  repository: Repository,
  signal: AbortSignal,
): Promise<ListenerStatus | undefined> {
  const locator = locateControlSocket(repository);
  if (!locator) return undefined;
  try {
    return await requestStatus(locator, signal) as ListenerStatus;
  } catch (error) {
    signal.throwIfAborted();
    debug(() => `the listener does not answer: ${error}`);
    return undefined;
  }
}

/** Returns a listener that does not answer: one of another version, or one that runs elsewhere. */
async function silentListener(repository: Repository): Promise<ListenerReport | null> {
  const serving = await servingOf(repository);
  if (!serving) return null;
  const version = otherVersion(repository) ?? null;
  return {
    elsewhere: null,
    pid: null,
    ...serving,
    version,
    since: null,
    relay: null,
    addresses: [],
  };
}
