import assert from "node:assert/strict";
import { HandshakeLimit } from "./handshake_limit.ts";

Deno.test("HandshakeLimit permits 32 handshakes of a dialer at once", () => {
  const limit = new HandshakeLimit();
  const overs = Array.from({ length: 32 }, () => {
    assert(limit.permits("a"));
    return limit.begin("a");
  });
  assert(!limit.permits("a"));
  assert(limit.permits("b"));
  overs[0]!();
  assert(limit.permits("a"));
});

Deno.test("HandshakeLimit permits one handshake of each dialer while there are 1000", () => {
  const limit = new HandshakeLimit();
  const overs = Array.from({ length: 1000 }, (_, i) => limit.begin(`${i % 100}`));
  assert(!limit.permits("0"));
  assert(limit.permits("new"));
  limit.begin("new");
  assert(!limit.permits("new"));
  for (const over of overs) over();
  assert(limit.permits("new"));
});
