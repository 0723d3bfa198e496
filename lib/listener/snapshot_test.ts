import assert from "node:assert/strict";
import type { ConnectionPool } from "./connection_pool.ts";
import type { LastSeenFile } from "./last_seen.ts";
import { listenerStatus, type StatusSources } from "./snapshot.ts";
import { TrafficMeter } from "./traffic.ts";

Deno.test("listenerStatus() has connected peers, and no strangers", () => {
  using meter = new TrafficMeter();
  const connection = { path: { kind: "direct", address: "192.0.2.1:5" }, roundTripMs: 1.23 };
  const connections = new Map([
    ["aa", [{ connection, isAuthenticated: true }]],
    ["bb", [{ connection, isAuthenticated: false }]],
  ]);
  const pool = {
    keys: () => connections.keys(),
    of: (key: string) => connections.get(key) ?? [],
  } as unknown as ConnectionPool;
  const { peers } = listenerStatus({
    endpoint: { knownAddresses: () => ({ relay: undefined, direct: [] }) },
    relayWatch: { relay: undefined },
    since: new Date(),
    pool,
    meter,
    lastSeen: { of: () => undefined } as unknown as LastSeenFile,
  } as unknown as StatusSources);
  assert.deepEqual(peers.map(({ key, connected }) => [key, connected]), [["aa", true]]);
});
