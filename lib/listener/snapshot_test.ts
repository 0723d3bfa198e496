import assert from "node:assert/strict";
import type { ConnectionPool } from "./connection_pool.ts";
import type { LastSeenFile } from "./last_seen.ts";
import { listenerStatus, type StatusSources } from "./snapshot.ts";
import { TrafficMeter } from "./traffic.ts";

Deno.test("listenerStatus() has peers that are connected or away, and no strangers", () => {
  using meter = new TrafficMeter();
  const connection = { path: { kind: "direct", address: "192.0.2.1:5" }, roundTripMs: 1.23 };
  const connections = new Map([
    ["aa", [{ connection, isAuthenticated: true }]],
    ["bb", [{ connection, isAuthenticated: false }]],
  ]);
  const pool = {
    keys: () => connections.keys(),
    awayKeys: () => ["cc"],
    awaySince: (key: string) => key === "cc" ? new Date(0) : undefined,
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
  assert.deepEqual(peers.map(({ key, connected, awaySince }) => [key, connected, awaySince]), [
    ["aa", true, null],
    ["cc", false, "1970-01-01T00:00:00.000Z"],
  ]);
});
