import assert from "node:assert/strict";
import { FakeIroh, FakeSearch, KEY, type Network } from "../../tests/dials.ts";
import { eventLoopTurns } from "../../tests/event_loop.ts";
import { Race } from "../async/race.ts";
import { describePath } from "../iroh/path.ts";
import type { Connection } from "../iroh/connection.ts";
import { IsolatedAttempts } from "./isolated_attempts.ts";

const MAX_SLOTS = 64, GROUPS = 16;
const TRUE = "10.0.0.9:9";

function makeAttempts(
  network: Network,
  { slotTimeoutMs = 60_000, beforeBind = (): void | Promise<void> => {} } = {},
) {
  const iroh = new FakeIroh(network, beforeBind);
  const search = new FakeSearch(), dial = new AbortController(), lanAddresses = new Set<string>();
  const target = { publicKey: KEY, alpns: ["alpn"], signal: dial.signal };
  const failures: string[] = [];
  const race = new Race<Connection>(() => {}, (error) => {
    failures.push((error as Error).message);
    return failures.at(-1)!;
  });
  const options = { slotTimeoutMs };
  const attempts = new IsolatedAttempts(
    iroh.endpoints,
    target,
    race,
    lanAddresses,
    search,
    options,
  );
  const stop = () => {
    dial.abort(new Error("the test is over"));
    iroh[Symbol.dispose]();
  };
  return { attempts, iroh, search, race, failures, lanAddresses, [Symbol.dispose]: stop };
}

function addresses(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `10.0.0.2:${i + 1}`);
}

Deno.test("IsolatedAttempts tries each known route, and each address again, from its own socket", async () => {
  using test = makeAttempts(async (peer) => {
    if (!peer.relay) return "silence";
    await eventLoopTurns(1); // until all others are under way
    return "connected";
  });
  test.search.find("10.0.0.2:1", "10.0.0.2:2");
  test.search.next(); // tried by the shared endpoint
  test.attempts.start([
    { kind: "address", direct: ["10.0.0.1:1"] },
    { kind: "relay", relay: "https://relay.example/" },
  ]);
  test.race.seal();
  const { endpoint } = await test.race.winner;
  assert.deepEqual(test.iroh.bound.map(({ dialed }) => [dialed[0]!.direct, dialed[0]!.relay]), [
    [["10.0.0.1:1"], undefined],
    [[], "https://relay.example/"],
    [["10.0.0.2:1"], undefined],
    [["10.0.0.2:2"], undefined],
  ]);
  assert.equal(endpoint, test.iroh.bound[1]);
  assert.deepEqual([...test.lanAddresses], ["10.0.0.2:1", "10.0.0.2:2"]);
});

Deno.test("IsolatedAttempts has at most 64 sockets on the local network, and uses each slot again", async () => {
  let open = 0, most = 0;
  using test = makeAttempts(async (peer) => {
    most = Math.max(most, ++open);
    await eventLoopTurns(1); // until all others are under way
    open--;
    return peer.direct[0] === "10.0.0.2:500" ? "connected" : "no-answer";
  });
  test.search.find(...addresses(500));
  test.attempts.start([]);
  test.race.seal();
  assert.equal(describePath((await test.race.winner).path), "direct 10.0.0.2:500");
  assert.equal(most, MAX_SLOTS);
  assert.equal(test.iroh.bound.length, GROUPS + 500);
  assert.equal(test.iroh.bound.filter(({ isClosed }) => !isClosed).length, 1); // the winner's
});

// On a busy machine, a socket for each of 480 wrong addresses took longer than the dial may take.
Deno.test("IsolatedAttempts: 480 silent addresses do not keep one socket of 16 from the peer", async () => {
  using test = makeAttempts(({ direct }) => direct.includes(TRUE) ? "connected" : "silence");
  test.search.find(...addresses(480), TRUE);
  test.attempts.start([]);
  test.race.seal();
  await test.race.winner;
  assert.equal(test.iroh.bound.length, GROUPS);
  assert.deepEqual(test.failures, []);
});

Deno.test("IsolatedAttempts: what is in a group with another endpoint is tried by itself at once", async () => {
  const LIAR = "10.0.0.3:3";
  using test = makeAttempts(({ direct }) =>
    direct.includes(LIAR) ? "key-mismatch" : direct.includes(TRUE) ? "connected" : "silence"
  );
  test.search.find(TRUE, LIAR, ...addresses(480));
  test.attempts.start([]);
  test.race.seal();
  assert.equal(describePath((await test.race.winner).path), `direct ${TRUE}`);
  const dialed = test.iroh.bound.map(({ dialed: [peer] }) => peer!.direct);
  assert(dialed[0]!.includes(TRUE) && dialed[0]!.includes(LIAR));
  assert(dialed.slice(GROUPS).every(({ length }) => length === 1));
  assert.deepEqual(test.failures, ["it says key-mismatch"]);
});

Deno.test("IsolatedAttempts: the time of an attempt begins when its socket is open", async () => {
  let bound = () => {};
  const isBound = new Promise<void>((resolve) => bound = resolve);
  const slotTimeoutMs = 50;
  using test = makeAttempts(() => "silence", { slotTimeoutMs, beforeBind: () => isBound });
  test.search.find(...addresses(2 * GROUPS));
  test.attempts.start([]);
  await new Promise((resolve) => setTimeout(resolve, 2 * slotTimeoutMs));
  assert.equal(test.search.waiting, 0);
  const boundAt = performance.now();
  bound();
  while (test.failures.length === 0) await eventLoopTurns(1);
  const tookMs = performance.now() - boundAt;
  assert(tookMs > 0.9 * slotTimeoutMs, `${tookMs} ms`);
});

Deno.test("IsolatedAttempts: a silent address gives up its slot if others wait", async () => {
  using test = makeAttempts((peer) => peer.direct[0] === TRUE ? "connected" : "silence", {
    slotTimeoutMs: 10,
  });
  test.search.find(...addresses(3 * MAX_SLOTS), TRUE);
  test.attempts.start([]);
  test.race.seal();
  assert.equal(describePath((await test.race.winner).path), `direct ${TRUE}`);
  assert(test.failures.length >= 2 * MAX_SLOTS + 1); // those that TRUE, the last one, waited for
  for (const failure of test.failures) {
    assert.equal(failure, "no answer within 0.01 s, and others wait");
  }
});

Deno.test("IsolatedAttempts: a silent address keeps its slot until another waits", async () => {
  using test = makeAttempts((peer) => peer.direct[0] === TRUE ? "connected" : "silence", {
    slotTimeoutMs: 10,
  });
  test.search.find(...addresses(MAX_SLOTS));
  test.attempts.start([]);
  test.race.seal();
  await new Promise((resolve) => setTimeout(resolve, 10)); // set after the timers of all slots
  assert.deepEqual(test.failures, []);
  test.search.find(TRUE);
  test.attempts.fillSlots();
  assert.equal(describePath((await test.race.winner).path), `direct ${TRUE}`);
});

Deno.test("IsolatedAttempts: the race is over when every address has failed", async () => {
  using test = makeAttempts(() => "no-answer");
  test.search.find(...addresses(200));
  test.attempts.start([]);
  test.race.seal();
  await assert.rejects(test.race.winner, { kind: "no-answer" });
  assert.equal(test.failures.length, GROUPS + 200);
  assert(test.iroh.bound.every(({ isClosed }) => isClosed));
});

Deno.test("IsolatedAttempts: a socket that cannot be opened fails its address only", async () => {
  let binds = 0;
  using test = makeAttempts(() => "connected", {
    beforeBind: () => {
      if (++binds === 1) throw new Error("Too many open files (os error 24)");
    },
  });
  test.search.find("10.0.0.2:1", "10.0.0.2:2");
  test.attempts.start([]);
  test.race.seal();
  assert.equal(describePath((await test.race.winner).path), "direct 10.0.0.2:2");
  assert.deepEqual(test.failures, ["too many open files"]);
});

Deno.test("IsolatedAttempts: if no socket can be opened for a group, each of its addresses has another chance", async () => {
  let binds = 0;
  using test = makeAttempts(() => "connected", {
    beforeBind: () => {
      if (++binds <= GROUPS) throw new Error("Too many open files (os error 24)");
    },
  });
  test.search.find(...addresses(2 * GROUPS));
  test.attempts.start([]);
  test.race.seal();
  await test.race.winner;
  assert.deepEqual(new Set(test.failures), new Set(["too many open files"]));
});

Deno.test("IsolatedAttempts opens no socket after the dial", () => {
  const test = makeAttempts(() => "silence");
  test[Symbol.dispose]();
  test.search.find("10.0.0.2:1");
  test.attempts.fillSlots();
  assert.equal(test.iroh.bound.length, 0);
});
