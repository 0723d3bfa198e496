import assert from "node:assert/strict";
import {
  type Answer,
  asEndpoint,
  FakeEndpoint,
  FakeSearch,
  KEY,
  SETTINGS,
} from "../../tests/dials.ts";
import { Race } from "../async/race.ts";
import type { Connection } from "../iroh/connection.ts";
import type { Route } from "./route.ts";
import { SharedAttempt } from "./shared_attempt.ts";

const direct: Route = { kind: "address", direct: ["10.0.0.1:1"] };
const sameHost: Route = { kind: "same-host", direct: ["127.0.0.1:1"] };
const relayA: Route = { kind: "relay", relay: "https://a.example/" };
const relayB: Route = { kind: "relay", relay: "https://b.example/" };
const lookup: Route = { kind: "lookup" };

function makeAttempt(answer: Answer, { lookupDelayMs = 0 } = {}) {
  const endpoint = new FakeEndpoint(SETTINGS, () => answer);
  const dial = new AbortController(), lanAddresses = new Set<string>();
  const target = { publicKey: KEY, alpns: ["alpn"], signal: dial.signal };
  const race = new Race<Connection>(() => {}, (error) => (error as Error).message);
  const options = { lookupDelayMs };
  const shared = new SharedAttempt(asEndpoint(endpoint), target, race, lanAddresses, options);
  return { shared, endpoint, race, dial, lanAddresses };
}

/** What an endpoint was asked to send to. */
function sentTo(
  { dialed }: FakeEndpoint,
): [direct: readonly string[], relay: string | undefined][] {
  return dialed.map(({ direct, relay }) => [direct, relay]);
}

Deno.test("SharedAttempt tries addresses and one relay in one attempt, other relays beside it", () => {
  const { shared, endpoint } = makeAttempt("silence");
  shared.addKnown([sameHost, direct, relayA, relayB]);
  assert.deepEqual(sentTo(endpoint), [
    [["127.0.0.1:1", "10.0.0.1:1"], "https://a.example/"],
    [[], "https://b.example/"],
  ]);
});

Deno.test("SharedAttempt tries a look-up alone at once, and beside other routes after a delay", async () => {
  const alone = makeAttempt("no-address", { lookupDelayMs: 60_000 });
  alone.shared.addKnown([lookup]);
  alone.race.seal();
  await assert.rejects(alone.race.winner, { kind: "no-address" });
  assert.deepEqual(sentTo(alone.endpoint), [[[], undefined]]);

  const beside = makeAttempt("no-answer");
  beside.shared.addKnown([direct, lookup]);
  assert.equal(beside.endpoint.dialed.length, 1);
  beside.race.seal();
  await assert.rejects(beside.race.winner, { kind: "no-answer" }); // once both have failed
  assert.deepEqual(sentTo(beside.endpoint), [[["10.0.0.1:1"], undefined], [[], undefined]]);
});

Deno.test("SharedAttempt: a delayed look-up does not outlast the dial", async () => {
  const { shared, race, dial } = makeAttempt("silence", { lookupDelayMs: 60_000 });
  shared.addKnown([direct, lookup]);
  race.seal();
  dial.abort(new Error("the dial is over"));
  await assert.rejects(race.winner, /the dial is over/);
  assert.equal(race.outcomes.get("the look-up at iroh's DNS"), "no answer");
});

Deno.test("SharedAttempt tries each address on the local network once, and at most 64", () => {
  const { shared, endpoint, lanAddresses } = makeAttempt("silence");
  const search = new FakeSearch();
  shared.addFound(search);
  assert.equal(endpoint.dialed.length, 0);
  search.find("10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:1");
  shared.addFound(search);
  assert.deepEqual(sentTo(endpoint), [[["10.0.0.1:1", "10.0.0.1:2"], undefined]]);
  assert(!shared.isFull);
  search.find(...Array.from({ length: 100 }, (_, i) => `10.0.0.2:${i}`));
  shared.addFound(search);
  assert.equal(endpoint.dialed[1]!.direct.length, 62);
  assert.equal(lanAddresses.size, 64);
  assert(shared.isFull);
  assert.equal(search.next(), "10.0.0.2:62"); // left to the isolated attempts
});
