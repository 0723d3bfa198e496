/** Collects what a listener knows of itself and of its peers, for `status`. */

import config from "../../deno.json" with { type: "json" };
import type { Connection } from "../iroh/connection.ts";
import type { Endpoint } from "../iroh/endpoint.ts";
import { describePath } from "../iroh/path.ts";
import type { ConnectionPool } from "./connection_pool.ts";
import type { Presence } from "./presence.ts";
import type { RelayWatch } from "./relay_watch.ts";
import type { TrafficMeter } from "./traffic.ts";

/** State of a running listener. Times are in ISO 8601. */
export interface ListenerStatus {
  readonly pid: number;
  /** Version of the program. */
  readonly version: string;
  /** Time at which it started. */
  readonly since: string;
  /** URL of the relay through which peers reach it; null if it has none at present. */
  readonly relay: string | null;
  /** Socket addresses at which peers may reach it. */
  readonly addresses: readonly string[];
  readonly peers: readonly PeerStatus[];
}

/** A peer that is connected, or that was while this listener ran. */
export interface PeerStatus {
  /** Public key in hex. */
  readonly key: string;
  readonly connected: boolean;
  /** `direct 1.2.3.4:5` or `relay https://…`. */
  readonly path: string | null;
  readonly roundTripMs: number | null;
  /** `TLS 1.2.3.4:5` or `QUIC 1.2.3.4:5` for each lane. */
  readonly lanes: readonly string[];
  /** Number of open sessions that the peer (incoming) and this repository (outgoing) have opened. */
  readonly sessions: { readonly incoming: number; readonly outgoing: number };
  /** Bytes since the listener started. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Average of the last few seconds. */
  readonly sentPerSecond: number;
  readonly receivedPerSecond: number;
  readonly lastSeen: string | null;
  /** Time of the first dial that has failed since it was connected last; null if none has. */
  readonly awaySince: string | null;
}

/** What a listener collects its state from. */
export interface StatusSources {
  readonly endpoint: Endpoint;
  readonly relayWatch: RelayWatch;
  readonly since: Date;
  readonly pool: ConnectionPool;
  readonly meter: TrafficMeter;
  readonly presence: Presence;
}

/** Returns the state of this listener. */
export function listenerStatus(
  { endpoint, relayWatch, since, ...sources }: StatusSources,
): ListenerStatus {
  // Strangers are no peers of this repository, and there may be many.
  const connected = [...sources.pool.keys()].filter((key) =>
    sources.pool.of(key).some(({ isAuthenticated }) => isAuthenticated)
  );
  const keys = new Set([...connected, ...sources.meter.keys(), ...sources.presence.awayKeys()]);
  return {
    pid: Deno.pid,
    version: config.version,
    since: since.toISOString(),
    relay: relayWatch.relay ?? null,
    addresses: endpoint.knownAddresses().direct,
    peers: [...keys].map((key) => peerStatus(key, sources)),
  };
}

function peerStatus(
  key: string,
  { pool, meter, presence }: Omit<StatusSources, "endpoint" | "relayWatch" | "since">,
): PeerStatus {
  const moved = meter.of(key);
  const connection: Connection | undefined = pool.of(key).at(-1)?.connection ??
    moved.connections.at(-1);
  const seen = connection ? new Date() : presence.lastSeen(key);
  const roundTripMs = connection?.roundTripMs;
  return {
    key,
    connected: connection !== undefined,
    path: connection ? describePath(connection.path) : null,
    roundTripMs: roundTripMs === undefined ? null : Math.round(roundTripMs * 10) / 10,
    lanes: moved.lanes,
    sessions: { incoming: moved.incoming, outgoing: moved.outgoing },
    bytesSent: moved.sent,
    bytesReceived: moved.received,
    sentPerSecond: moved.sentPerSecond,
    receivedPerSecond: moved.receivedPerSecond,
    lastSeen: seen?.toISOString() ?? null,
    awaySince: presence.absence(key)?.since.toISOString() ?? null,
  };
}
