/** What a listener knows of itself and of its peers, for `status`. */

import type { Connection, Endpoint } from "../iroh/endpoint.ts";
import { debug } from "../console/stderr.ts";
import type { LastSeenFile } from "./last_seen.ts";
import type { ConnectionPool } from "./connection_pool.ts";
import type { TrafficMeter } from "./traffic.ts";

/** A listener that runs. */
export interface ListenerStatus {
  readonly pid: number;
  /** ISO 8601, as all times here. */
  readonly since: string;
  /** URL of the relay through which it can be reached at present. */
  readonly relay: string | null;
  /** Socket addresses at which it knows it can be reached. */
  readonly addresses: readonly string[];
  readonly peers: readonly PeerStatus[];
}

/** A peer of which the listener knows. */
export interface PeerStatus {
  /** Public key in hex. */
  readonly key: string;
  readonly connected: boolean;
  /** `direct 1.2.3.4:5` or `relay https://…`. */
  readonly path: string | null;
  readonly roundTripMs: number | null;
  /** `TLS 1.2.3.4:5` or `QUIC 1.2.3.4:5`: direct connections beside iroh's. */
  readonly lanes: readonly string[];
  /** Sessions of git-annex under way, by who has opened them. */
  readonly sessions: { readonly incoming: number; readonly outgoing: number };
  /** Since the listener runs. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** At present. */
  readonly sentPerSecond: number;
  readonly receivedPerSecond: number;
  readonly lastSeen: string | null;
}

/** Where the facts are. */
export interface StatusSources {
  readonly endpoint: Endpoint;
  readonly since: Date;
  readonly pool: ConnectionPool;
  readonly meter: TrafficMeter;
  readonly lastSeen: LastSeenFile;
}

export function listenerStatus({ endpoint, since, ...sources }: StatusSources): ListenerStatus {
  const { relay, direct } = addressesOf(endpoint);
  const keys = new Set([...sources.pool.keys(), ...sources.meter.keys()]);
  return {
    pid: Deno.pid,
    since: since.toISOString(),
    relay: relay ?? null,
    addresses: direct,
    peers: [...keys].map((key) => peerStatus(key, sources)),
  };
}

function peerStatus(
  key: string,
  { pool, meter, lastSeen }: Omit<StatusSources, "endpoint" | "since">,
): PeerStatus {
  const moved = meter.of(key);
  const connection: Connection | undefined = pool.of(key).at(-1)?.connection ??
    moved.connections.at(-1);
  const seen = connection ? new Date() : lastSeen.of(key);
  const roundTripMs = connection?.roundTripMs;
  return {
    key,
    connected: connection !== undefined,
    path: connection?.path ?? null,
    roundTripMs: roundTripMs === undefined ? null : Math.round(roundTripMs * 10) / 10,
    lanes: moved.lanes,
    sessions: { incoming: moved.incoming, outgoing: moved.outgoing },
    bytesSent: moved.sent,
    bytesReceived: moved.received,
    sentPerSecond: moved.sentPerSecond,
    receivedPerSecond: moved.receivedPerSecond,
    lastSeen: seen?.toISOString() ?? null,
  };
}

function addressesOf(endpoint: Endpoint): ReturnType<Endpoint["addresses"]> {
  try {
    return endpoint.addresses();
  } catch (error) {
    debug(() => `the endpoint does not say where it is: ${error}`); // the rest is known
    return { relay: undefined, direct: [] };
  }
}
