import assert from "node:assert/strict";
import type { ConnectionPool } from "./connection_pool.ts";
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
    of: (key: string) => connections.get(key) ?? [],
  } as unknown as ConnectionPool;
  const presence = {
    awayKeys: () => ["cc"],
    absence: (key: string) => key === "cc" ? { since: new Date(0) } : undefined,
    lastSeen: () => undefined,
  };
  const { peers } = listenerStatus({
    endpoint: { knownAddresses: () => ({ relay: undefined, direct: [] }) },
    relayWatch: { relay: undefined },
    since: new Date(),
    pool,
    meter,
    presence,
  } as unknown as StatusSources);
  assert.deepEqual(peers.map(({ key, connected, awaySince }) => [key, connected, awaySince]), [
    ["aa", true, null],
    ["cc", false, "1970-01-01T00:00:00.000Z"],
  ]);
});
