import assert from "node:assert/strict";
import { delayProxy } from "../../tests/delay_proxy.ts";
import { type FakeEndpoint, FakeIroh, FakeSearch, KEY, type Network } from "../../tests/dials.ts";
import { eventLoopTurns } from "../../tests/event_loop.ts";
import { describePath } from "../iroh/path.ts";
import type { Connection, PeerAddress } from "../iroh/connection.ts";
import { Endpoint } from "../iroh/endpoint.ts";
import { parseSettings } from "../repository/settings.ts";
import { Dial, dialPeer, type DialTimeouts } from "./dialer.ts";
import { describeRoute, type Route } from "./route.ts";

const TRUE = "10.0.0.1:1", FALSE = "10.0.0.2:2";
const address: Route = { kind: "address", direct: [FALSE] };
const relay: Route = { kind: "relay", relay: "https://relay.example/" };
/** Limits that no test reaches. */
const LONG = { lanSearchMs: 60_000, lanConnectMs: 60_000, lookupDelayMs: 60_000 };

function makeDial(
  network: Network,
  { known = [] as Route[], search = undefined as FakeSearch | undefined, timeouts = {} } = {},
) {
  const iroh = new FakeIroh(network), limit = new AbortController();
  const target = { publicKey: KEY, alpns: ["alpn"], signal: limit.signal };
  const merged: DialTimeouts = { ...LONG, ...timeouts };
  const dial = new Dial(target, known, search, iroh.endpoints, merged);
  const stop = () => {
    dial[Symbol.dispose]();
    iroh[Symbol.dispose]();
  };
  const run = async () => await dial.run(await iroh.endpoints.bindShared());
  return { dial, iroh, limit, run, [Symbol.dispose]: stop };
}

/** Answers like a network where another endpoint answers first at a false address. */
function withImpostor(peer: PeerAddress): "key-mismatch" | "connected" | "silence" {
  if (peer.direct.includes(FALSE)) return "key-mismatch";
  return peer.direct.includes(TRUE) || peer.relay ? "connected" : "silence";
}

Deno.test("Dial: the first attempt wins, although others go on", async () => {
  using test = makeDial(
    (peer) => peer.relay === relay.relay ? "connected" : "silence",
    {
      known: [address, { kind: "relay", relay: "https://silent.example/" }, relay],
      search: new FakeSearch(),
    },
  );
  const connection = await test.run();
  assert.equal(describePath(connection.path), "relay https://relay.example/");
  assert.equal(test.iroh.bound.length, 1);
});

Deno.test("Dial: if another endpoint answers, each route is tried by itself", async () => {
  using test = makeDial(withImpostor, { known: [address, relay] });
  const connection = await test.run();
  assert.equal(describePath(connection.path), "relay https://relay.example/");
  assert.deepEqual(test.iroh.bound.map(({ dialed }) => dialed.map(({ direct }) => direct)), [
    [[FALSE]], // all at once
    [[FALSE]],
    [[]],
  ]);
});

Deno.test("Dial: if another endpoint answers at the only address, the next one found is isolated", async () => {
  const search = new FakeSearch();
  using test = makeDial(withImpostor, { search });
  const winner = test.run();
  search.find(FALSE);
  while (!test.dial.outcomes.get("the local network")?.includes("key-mismatch")) {
    await eventLoopTurns(1);
  }
  assert.equal(test.iroh.bound.length, 1); // nothing to isolate from
  search.find(TRUE);
  await winner;
  const [, ...isolated] = test.iroh.bound;
  assert.deepEqual(isolated.map(({ dialed }) => dialed[0]!.direct), [[FALSE], [TRUE]]);
  assert.deepEqual(test.dial.lanRoute.direct, [FALSE, TRUE]);
});

Deno.test("Dial: if what was found does not answer in time, each route is tried by itself", async () => {
  const search = new FakeSearch();
  const network = (_peer: PeerAddress, _alpn: string, endpoint: FakeEndpoint) =>
    endpoint === test.iroh.bound[0] ? "silence" : "connected";
  using test = makeDial(network, { search, timeouts: { lanConnectMs: 1 } });
  const winner = test.run();
  search.find(FALSE, TRUE);
  assert.equal((await winner).endpoint, test.iroh.bound[1]);
});

Deno.test("Dial: more than 64 addresses on the local network are tried one by one", async () => {
  const search = new FakeSearch();
  using test = makeDial(
    (peer) => peer.direct.join() === TRUE ? "connected" : "silence",
    { search, timeouts: { slotTimeoutMs: 1 } },
  );
  const winner = test.run();
  search.find(...Array.from({ length: 100 }, (_, i) => `10.0.0.3:${i}`), TRUE);
  assert.equal(describePath((await winner).path), `direct ${TRUE}`);
  assert.equal(test.iroh.bound[0]!.dialed[0]!.direct.length, 64);
});

Deno.test("Dial: an invalid key ends the dial at once", async () => {
  using test = makeDial(() => "invalid-key", { known: [relay], search: new FakeSearch() });
  await assert.rejects(test.run(), { kind: "invalid-key" });
});

Deno.test("Dial: disposed of, it ends every attempt", async () => {
  const test = makeDial(() => "silence", { known: [relay], search: new FakeSearch() });
  const run = test.run();
  test[Symbol.dispose]();
  await assert.rejects(run, /the dial is over/);
});

Deno.test("Dial: when nothing answers, each route has an outcome", async () => {
  using test = makeDial((peer) => peer.relay ? "refused" : "no-answer", {
    known: [relay, { kind: "lookup" }],
    search: new FakeSearch(),
    timeouts: { lanSearchMs: 1, lookupDelayMs: 1 },
  });
  await assert.rejects(test.run());
  assert.deepEqual([...test.dial.outcomes], [
    ["relay https://relay.example/", "it says refused"],
    ["the look-up at iroh's DNS", "it says no-answer"],
    ["the local network", "no peer there has its key"],
  ]);
});

Deno.test("Dial: without a route it fails at once", async () => {
  using test = makeDial(() => "silence");
  await assert.rejects(test.run());
  assert.equal(test.dial.outcomes.size, 0);
});

Deno.test("Dial: its limit ends the search on the local network, too", async () => {
  using test = makeDial(() => "silence", { known: [relay], search: new FakeSearch() });
  const run = test.run();
  test.limit.abort(new Error("no answer within 8 s"));
  await assert.rejects(run, /no answer within 8 s/);
  assert.equal(test.dial.outcomes.get("relay https://relay.example/"), "no answer within 8 s");
});

Deno.test("Dial: disposed of, it closes all endpoints but the released one", async () => {
  const test = makeDial(withImpostor, { known: [address, relay] });
  const { endpoint } = await test.run();
  test.iroh.endpoints.release(endpoint);
  test[Symbol.dispose]();
  assert.equal(test.iroh.bound.length, 3);
  for (const bound of test.iroh.bound) {
    assert.equal(bound.isClosed, bound !== endpoint as unknown as FakeEndpoint);
  }
});

// ping said "found by 127.0.0.1:PORT" in 7 of 48 runs: iroh had moved to another address of the peer before
// dialPeer looked at the path.
Deno.test({
  name: "dialPeer says that its address led to a peer that iroh now reaches at another one",
  sanitizeOps: false, // of iroh, whose sockets close later
  sanitizeResources: false,
  fn: async () => {
    const options = { relay: { kind: "none" }, lookup: false } as const;
    const signal = AbortSignal.timeout(30_000);
    await using listening = await Endpoint.bind({ ...options, alpns: ["test"] });
    await using dialing = await Endpoint.bind(options);
    const port = Number(listening.boundSockets()[0]!.split(":").at(-1));
    using proxy = delayProxy(port); // slower than any address that iroh finds
    const direct = `127.0.0.1:${proxy.port}`;
    const accepted = listening.incoming().next().then(({ value }) => value!.accept(signal));
    const from = {
      async connect(...args: Parameters<Endpoint["connect"]>): Promise<Connection> {
        const connection = await dialing.connect(...args);
        while (describePath(connection.path) === `direct ${direct}`) await eventLoopTurns(1);
        return connection;
      },
    } as unknown as Endpoint;
    const ticket = { publicKey: listening.publicKey, relays: [], direct: [direct] };
    const settings = parseSettings(
      "p2p-iroh.relay\nnone\0p2p-iroh.lookup\nnone\0p2p-iroh.lan\nfalse\0",
      () => undefined,
    );
    const { connection, route } = await dialPeer(ticket, settings, ["test"], signal, { from });
    assert.match(describePath(connection.path), /^direct /);
    assert.notEqual(describePath(connection.path), `direct ${direct}`);
    assert.equal(describeRoute(route), "its address");
    (await accepted).close(0n, "");
  },
});

/** As many addresses as one endpoint tries, where no endpoint is. */
const MANY = Array.from({ length: 64 }, (_, i) => `10.0.1.${i}:1`);

Deno.test("Dial: a peer with as many addresses as one endpoint tries is reached from one socket", async () => {
  const search = new FakeSearch();
  using test = makeDial((peer) => peer.direct.includes(TRUE) ? "connected" : "silence", { search });
  const winner = test.run();
  search.find(TRUE, ...MANY);
  await winner;
  assert.equal(test.iroh.bound.length, 1);
});

Deno.test("Dial: if none of so many addresses answers in time, each is tried by itself", async () => {
  const search = new FakeSearch();
  using test = makeDial(
    (peer) => peer.direct.length === 1 && peer.direct[0] === MANY[7] ? "connected" : "silence",
    { search, timeouts: { lanFullMs: 10 } },
  );
  const winner = test.run();
  search.find(...MANY);
  await winner;
  assert(test.iroh.bound.length > 1);
});
