/** The report of `status` as an object. docs/status.schema.json describes it for programs. */

import config from "../../deno.json" with { type: "json" };
import { requestStatus } from "../control/client.ts";
import { locateControlSocket } from "../control/locator.ts";
import type { ListenerStatus, PeerStatus } from "../listener/snapshot.ts";
import { readLastSeen } from "../listener/last_seen.ts";
import { servingOf } from "../listener/listener_file.ts";
import { presentAddress } from "../repository/address.ts";
import type { Repository } from "../repository/repository.ts";
import { debug } from "../console/stderr.ts";
import { runningUp, type UpStatus } from "../supervisor/entry.ts";
import { irohRemotes } from "./remotes.ts";

/** Number of the format. A format that drops or changes a field gets another number. */
const FORMAT = 1;

/** The process that serves the repository, as far as it is known here. */
type ListenerReport = Omit<ListenerStatus, "peers" | "since" | "pid"> & {
  /** Name of the host, and whether it is in another container of this one; null if it runs here. */
  readonly elsewhere: string | null;
  /** Null if it runs elsewhere. */
  readonly pid: number | null;
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
    /** Names of the git remotes that have its address. */
    readonly remotes: readonly string[];
    readonly address: string | null;
  })[];
}

/** Status of a peer that the listener does not know. */
const UNKNOWN: Omit<PeerStatus, "key" | "lastSeen"> = {
  connected: false,
  path: null,
  roundTripMs: null,
  lanes: [],
  sessions: { incoming: 0, outgoing: 0 },
  bytesSent: 0,
  bytesReceived: 0,
  sentPerSecond: 0,
  receivedPerSecond: 0,
};

/** Collects the report, from the listener if there is one, and from the repository's files. */
export async function statusReport(
  repository: Repository,
  signal: AbortSignal,
): Promise<StatusReport> {
  const address = presentAddress(repository), lastSeen = readLastSeen(repository);
  const [status, remotes] = await Promise.all([
    requestListenerStatus(repository, signal),
    irohRemotes(repository),
  ]);
  const known = new Map((status?.peers ?? []).map((peer) => [peer.key, peer]));
  const byKey = Map.groupBy(remotes, ({ publicKey }) => publicKey.toHex());
  // A peer that is no remote is in the report only while it is connected or has moved data.
  const active = [...known.values()].filter((peer) =>
    peer.connected || peer.bytesSent + peer.bytesReceived > 0
  );
  const keys = new Set([...byKey.keys(), ...active.map(({ key }) => key)]);
  const peers = [...keys].map((key) => {
    const named = byKey.get(key) ?? [];
    const peer = known.get(key) ?? { key, ...UNKNOWN, lastSeen: null };
    return {
      ...peer,
      lastSeen: peer.lastSeen ?? lastSeen.get(key)?.toISOString() ?? null,
      remotes: named.map(({ name }) => name),
      address: named[0]?.address ?? null,
    };
  });
  return {
    format: FORMAT,
    version: config.version,
    address: address ?? null,
    listener: status ? withoutPeers(status) : await silentListener(repository),
    up: await runningUp(repository) ?? null,
    peers,
  };
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
  return { elsewhere: null, pid: null, ...serving, since: null, relay: null, addresses: [] };
}
