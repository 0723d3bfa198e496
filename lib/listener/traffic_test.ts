import assert from "node:assert/strict";
import type { Connection } from "../iroh/connection.ts";
import { TrafficMeter } from "./traffic.ts";

const SAMPLE_MS = 5;

/** A session that a test moves bytes on. */
function session(key: string, isIncoming: boolean) {
  const counts = { sent: 0, received: 0 };
  return {
    counts,
    live: { key, isIncoming, byteCounts: () => ({ ...counts }), lane: () => "TLS x" },
  };
}

/** Waits until `isTrue`, and looks at every sample. */
async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
}

Deno.test("TrafficMeter adds up open and ended sessions of a peer", () => {
  using meter = new TrafficMeter();
  const [first, second] = [session("a", true), session("a", false)];
  const ending = meter.begin(first.live);
  using _ = meter.begin(second.live);
  first.counts.sent = 10;
  second.counts.received = 5;
  const { sent, received, incoming, outgoing, lanes } = meter.of("a");
  assert.deepEqual([sent, received, incoming, outgoing, lanes], [10, 5, 1, 1, ["TLS x"]]);
  ending[Symbol.dispose]();
  ending[Symbol.dispose]();
  const after = meter.of("a");
  assert.deepEqual([after.sent, after.received, after.incoming, after.outgoing], [10, 5, 0, 1]);
  assert.deepEqual([...meter.keys()], ["a"]);
});

Deno.test("TrafficMeter tells the bytes of open outgoing sessions only", () => {
  using meter = new TrafficMeter();
  const incoming = session("a", true), outgoing = session("b", false);
  using _incoming = meter.begin(incoming.live);
  incoming.counts.sent = 7;
  assert.equal(meter.movedByOutgoing(), undefined);
  const ending = meter.begin(outgoing.live);
  Object.assign(outgoing.counts, { sent: 3, received: 4 });
  assert.equal(meter.movedByOutgoing(), 7);
  ending[Symbol.dispose]();
  assert.equal(meter.movedByOutgoing(), undefined);
});

Deno.test("TrafficMeter tells the present connection of a session", () => {
  using meter = new TrafficMeter();
  const [before, after] = [{}, {}] as [Connection, Connection];
  let connection = before;
  using _ = meter.begin({ ...session("a", true).live, connection: () => connection });
  assert.equal(meter.of("a").connections[0], before);
  connection = after;
  assert.equal(meter.of("a").connections[0], after);
  assert.equal(meter.of("a").incoming, 1);
});

Deno.test("TrafficMeter measures a rate, which falls to zero after the last byte", async () => {
  using meter = new TrafficMeter(SAMPLE_MS);
  const { counts, live } = session("a", true);
  const ending = meter.begin(live);
  counts.sent = 1_000_000;
  assert(meter.of("a").sentPerSecond > 0);
  ending[Symbol.dispose]();
  await until(() => meter.of("a").sentPerSecond === 0);
  assert.equal(meter.of("a").sent, 1_000_000);
});

Deno.test("TrafficMeter remembers at most 200 peers without a session", () => {
  using meter = new TrafficMeter();
  for (let i = 0; i < 300; i++) meter.begin(session(`${i}`, true).live)[Symbol.dispose]();
  assert.equal(meter.keys().size, 200);
  assert(meter.keys().has("299"));
});
