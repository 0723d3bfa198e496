import assert from "node:assert/strict";
import { asEndpoint, FakeEndpoint, KEY, type Network, SETTINGS } from "../../tests/dials.ts";
import { reasonFor } from "../console/failure.ts";
import { connectOn } from "./attempt.ts";
import type { Route } from "./route.ts";

const never = new AbortController().signal;
const target = { publicKey: KEY, alpns: ["new", "old"], signal: never };
const routes: Route[] = [
  { kind: "address", direct: ["10.0.0.1:1"] },
  { kind: "same-host", direct: ["127.0.0.1:1"] },
  { kind: "relay", relay: "https://relay.example/" },
];

function endpointOn(network: Network): FakeEndpoint {
  return new FakeEndpoint(SETTINGS, network);
}

Deno.test("connectOn tries the next protocol if the peer does not speak the first", async () => {
  const tried: string[] = [];
  const endpoint = endpointOn((_peer, alpn) => {
    tried.push(alpn);
    return alpn === "old" ? "connected" : "alpn-mismatch";
  });
  await connectOn(asEndpoint(endpoint), routes, target, never);
  assert.deepEqual(tried, ["new", "old"]);
  assert.deepEqual(endpoint.dialed[0], {
    publicKey: KEY,
    direct: ["10.0.0.1:1", "127.0.0.1:1"],
    relay: "https://relay.example/",
  });
});

Deno.test("connectOn fails at once for another reason, and after the last protocol", async () => {
  for (const [answer, dials] of [["refused", 1], ["alpn-mismatch", 2]] as const) {
    const endpoint = endpointOn(() => answer);
    const attempt = connectOn(asEndpoint(endpoint), routes, target, never);
    await assert.rejects(attempt, { name: "DialError", kind: answer });
    assert.equal(endpoint.dialed.length, dials);
  }
});

Deno.test("connectOn ends with the dial, and when another attempt has won", async () => {
  const silent = () => asEndpoint(endpointOn(() => "silence"));
  const dial = new AbortController(), race = new AbortController();
  const byDial = connectOn(silent(), routes, { ...target, signal: dial.signal }, never);
  const byRace = connectOn(silent(), routes, target, race.signal);
  dial.abort(new Error("over"));
  race.abort(new Error("another route was faster"));
  await assert.rejects(byDial, /over/);
  await assert.rejects(byRace, /another route was faster/);
});

Deno.test("reasonFor gives the caller's words for a time limit, and the system's for an error", () => {
  assert.equal(
    reasonFor(new DOMException("", "TimeoutError"), "no answer within 4 s"),
    "no answer within 4 s",
  );
  assert.equal(reasonFor(new Error("No route to host (os error 113)"), ""), "no route to host");
});
