import assert from "node:assert/strict";
import { HostWatch } from "./host_watch.ts";

const HOUR_MS = 60 * 60_000, never = new AbortController().signal;

function makeHost({ ping = (_relay: string) => Promise.resolve(true) } = {}) {
  const state = { relay: undefined as string | undefined, hosts: "10.0.0.1", wall: 0, ran: 0 };
  const watch = new HostWatch({
    relay: () => state.relay,
    hosts: () => state.hosts,
    wallClock: () => state.wall,
    monotonicClock: () => state.ran,
    ping,
  });
  return { state, watch };
}

Deno.test("HostWatch notices another address and another relay, once", () => {
  const { state, watch } = makeHost();
  assert.equal(watch.hasChanged(), false);
  state.hosts = "10.0.0.2";
  assert.deepEqual([watch.hasChanged(), watch.hasChanged()], [true, false]);
  state.relay = "https://relay.example/";
  assert.deepEqual([watch.hasChanged(), watch.hasChanged()], [true, false]);
});

Deno.test("HostWatch notices a sleep, but no time that passes and no correction of the clock", () => {
  const { state, watch } = makeHost();
  const pass = (wall: number, ran: number) => {
    state.wall += wall;
    state.ran += ran;
    return watch.hasChanged();
  };
  assert.equal(pass(HOUR_MS, HOUR_MS), false);
  assert.equal(pass(HOUR_MS, 1_000), true);
  assert.equal(pass(1_000, 1_000), false);
  assert.equal(pass(3_000, 1_000), false);
  assert.equal(pass(-HOUR_MS, 1_000), false); // the user has set the clock back
  assert.equal(pass(1_000, 1_000), false);
});

Deno.test("HostWatch asks the relay whether this host is online, once at a time", async () => {
  const asked: string[] = [], answer = Promise.withResolvers<boolean>();
  const { state, watch } = makeHost({ ping: (relay) => (asked.push(relay), answer.promise) });
  assert.equal(await watch.isOnline(never), true);
  state.relay = "https://relay.example/";
  const both = Promise.all([watch.isOnline(never), watch.isOnline(never)]);
  answer.resolve(false);
  assert.deepEqual(await both, [false, false]);
  assert.deepEqual(asked, [state.relay]);
});
