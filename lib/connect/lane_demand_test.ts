import assert from "node:assert/strict";
import { LaneDemand } from "./lane_demand.ts";

const BYTES = 256 * 1024, EXCHANGES = 256, WITHIN_MS = 8_000;
const NOW = 50_000;

/** Lets a session have so many exchanges of a byte each way. @returns Whether a lane pays. */
function exchange(
  demand: LaneDemand,
  count: number,
  { from = 0, intervalMs = 1, begin = NOW } = {},
): boolean {
  let pays = false;
  for (let i = from + 1; i <= from + count && !pays; i++) {
    const now = begin + i * intervalMs;
    demand.count({ sent: i, received: i - 1 }, now);
    pays = demand.count({ sent: i, received: i }, now);
  }
  return pays;
}

Deno.test("LaneDemand: a lane pays after 256 KiB, both directions together", () => {
  const demand = new LaneDemand();
  assert(!demand.count({ sent: BYTES - 1, received: 0 }, NOW));
  assert(demand.count({ sent: BYTES - 1, received: 1 }, NOW));
});

Deno.test("LaneDemand: a lane pays after 256 exchanges, and not after 255", () => {
  const demand = new LaneDemand();
  assert(!exchange(demand, EXCHANGES - 1));
  assert(exchange(demand, 1, { from: EXCHANGES - 1 }));
});

Deno.test("LaneDemand: pieces that go one way are no exchanges", () => {
  const demand = new LaneDemand();
  for (let i = 1; i <= 10 * EXCHANGES; i++) {
    assert(!demand.count({ sent: i, received: 0 }, NOW));
  }
  for (let i = 1; i <= 10 * EXCHANGES; i++) {
    assert(!demand.count({ sent: 10 * EXCHANGES, received: i }, NOW));
  }
});

Deno.test("LaneDemand: exchanges count if they come within eight seconds", () => {
  const intervalMs = Math.floor(WITHIN_MS / (EXCHANGES - 1));
  assert(exchange(new LaneDemand(), EXCHANGES, { intervalMs }));
  const demand = new LaneDemand();
  assert(!exchange(demand, 10 * EXCHANGES, { intervalMs: intervalMs + 1 }));
  // They count from the first one, and not from the start of the process.
  assert(exchange(new LaneDemand(), EXCHANGES, { intervalMs, begin: WITHIN_MS / 2 }));
});

Deno.test("LaneDemand counts anew when it is told to", () => {
  const demand = new LaneDemand();
  assert(exchange(demand, EXCHANGES));
  demand.restart({ sent: EXCHANGES, received: EXCHANGES });
  assert(!exchange(demand, EXCHANGES - 1, { from: EXCHANGES }));
  assert(exchange(demand, 1, { from: 2 * EXCHANGES - 1 }));
  demand.restart({ sent: BYTES, received: 0 });
  assert(!demand.count({ sent: 2 * BYTES - 1, received: 0 }, NOW));
  assert(demand.count({ sent: 2 * BYTES - 1, received: 1 }, NOW));
});
