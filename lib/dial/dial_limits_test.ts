import assert from "node:assert/strict";
import { DialDeadline, hasNetwork, isOnline } from "./dial_limits.ts";

const never = new AbortController().signal;

/** Resolves to the reason with which a deadline ends a dial. */
function reason({ signal }: DialDeadline): Promise<Error> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(signal.reason)));
}

Deno.test("DialDeadline: the peer's time begins when this host is online", async () => {
  let looks = 0;
  using deadline = new DialDeadline({ totalMs: 60_000, onlineMs: 1 }, never);
  const ended = reason(deadline);
  deadline.begin(() => ++looks === 2);
  assert.equal(deadline.hadTime, false);
  assert.match((await ended).message, /no answer within 0\.001 s/);
  assert.deepEqual([looks, deadline.hadTime], [2, true]);
});

Deno.test("DialDeadline ends a dial of a host that is not online in time, which tells nothing", async () => {
  using deadline = new DialDeadline({ totalMs: 10, onlineMs: 60_000 }, never);
  const ended = reason(deadline);
  deadline.begin(() => false);
  assert.match((await ended).message, /no answer within 0\.01 s/);
  assert.equal(deadline.hadTime, false);
});

Deno.test("DialDeadline: a dial that was online too late for the peer's whole time tells nothing", async () => {
  using deadline = new DialDeadline({ totalMs: 10, onlineMs: 60_000 }, never);
  const ended = reason(deadline);
  deadline.begin(() => true);
  assert.equal(deadline.hadTime, true); // if all attempts fail by themselves now
  await ended;
  assert.equal(deadline.hadTime, false);
});

Deno.test("isOnline() asks for the relay that answers, if one is set", () => {
  const endpoint = (relay?: string) => ({ knownAddresses: () => ({ relay }) });
  const ticket = { direct: ["127.0.0.1:1"] }, n0 = { relay: { kind: "n0" } } as const;
  assert.equal(isOnline(endpoint(), n0, ticket), false);
  assert.equal(isOnline(endpoint("https://relay.example/"), n0, ticket), true);
  assert.equal(isOnline(endpoint(), { relay: { kind: "none" } }, ticket), true);
});

Deno.test("hasNetwork(): a peer of this host needs no network", () => {
  const hasOthers = hasNetwork({ direct: [] });
  assert.equal(hasNetwork({ direct: ["127.0.0.1:1", "[::1]:1"] }), true);
  assert.equal(hasNetwork({ direct: ["127.0.0.1:1", "192.0.2.1:1"] }), hasOthers);
});
