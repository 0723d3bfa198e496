import assert from "node:assert/strict";
import { HandshakeLimit } from "./handshake_limit.ts";

/** A limit with a clock that the test sets. */
function limitWithClock() {
  const clock = { ms: 0 };
  return { limit: new HandshakeLimit(() => clock.ms), clock };
}

/** Begins as many handshakes as a dialer may. */
function beginAll(limit: HandshakeLimit, dialer: string) {
  const begun = [];
  while (limit.permits(dialer)) begun.push(limit.begin(dialer));
  return begun;
}

Deno.test("HandshakeLimit permits 32 handshakes of a dialer at once", () => {
  const { limit, clock } = limitWithClock();
  const begun = beginAll(limit, "a");
  assert.equal(begun.length, 32);
  assert(limit.permits("b"));
  clock.ms = 5_000;
  assert(!limit.permits("a"));
  begun[0]!.over();
  assert(limit.permits("a"));
});

Deno.test("HandshakeLimit permits 32 handshakes of a dialer in a second, unless it is let in", () => {
  const { limit, clock } = limitWithClock();
  for (const handshake of beginAll(limit, "a")) handshake.over();
  clock.ms = 999;
  assert(!limit.permits("a"));
  clock.ms = 1_000;
  const begun = beginAll(limit, "a");
  assert.equal(begun.length, 32);
  for (const handshake of begun) handshake.over();
  for (const handshake of begun) handshake.letIn();
  assert.equal(beginAll(limit, "a").length, 32);
  clock.ms = 3_000; // when those that were let in no longer count in any case
  assert(!limit.permits("a"));
});

Deno.test("HandshakeLimit permits one handshake of each dialer while there are 1000", () => {
  const { limit, clock } = limitWithClock();
  const begun = Array.from({ length: 1000 }, (_, i) => limit.begin(`${i % 100}`));
  assert(!limit.permits("0"));
  assert(limit.permits("new"));
  begun.push(limit.begin("new"));
  assert(!limit.permits("new"));
  for (const handshake of begun) handshake.over();
  clock.ms = 1_000;
  assert(limit.permits("new"));
});
