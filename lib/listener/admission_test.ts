import assert from "node:assert/strict";
import fc from "fast-check";
import { GivenAway, type Place, Places } from "./admission.ts";

const YOUNG_MS = 50;
const never = new AbortController().signal;

/** Places in which nobody is ever young, so that nobody waits. */
class PlacesForAll extends Places {
  constructor(limit: number) {
    super(limit, 0);
  }
}

/** Takes a place that is there. */
async function enter(places: Places, source: string): Promise<Place> {
  const place = await places.enter(source, never);
  assert(place);
  return place;
}

Deno.test("Places takes no newcomer when all places are held by authenticated peers", async () => {
  const places = new Places(2);
  for (const source of ["a", "b"]) (await enter(places, source)).authenticated();
  assert.equal(await places.enter("c", never), undefined);
});

Deno.test("Places gives a stranger's place to a newcomer, and never an authenticated peer's", async () => {
  const places = new PlacesForAll(2);
  const friend = await enter(places, "a");
  friend.authenticated();
  const stranger = await enter(places, "b");
  const newcomer = await enter(places, "c");
  assert(stranger.givenAway.aborted && stranger.givenAway.reason instanceof GivenAway);
  assert(!friend.givenAway.aborted && !newcomer.givenAway.aborted);
});

Deno.test("Places: a newcomer waits for whoever has just come, unless that is one of many", async () => {
  const places = new Places(4, YOUNG_MS);
  const began = performance.now();
  (await enter(places, "friend")).authenticated();
  const ways = [await enter(places, "10.0.0.1"), await enter(places, "10.0.0.1")];
  const relay = await enter(places, "relay");
  const newcomer = await enter(places, "other");
  assert(performance.now() - began >= YOUNG_MS - 1);
  assert.deepEqual([...ways, relay].map((place) => place.givenAway.aborted), [true, false, false]);

  const crowded = new Places(4);
  const crowd = [];
  for (let i = 0; i < 5; i++) crowd.push(await enter(crowded, "crowd"));
  assert(crowd[0]!.givenAway.aborted);
  newcomer.leave();
});

Deno.test("Places: a newcomer who waits gets the place of whoever leaves first", async () => {
  const places = new Places(1, 60_000);
  const first = await enter(places, "a");
  const waiting = places.enter("a", never);
  first.leave();
  assert(await waiting);
  assert(!first.givenAway.aborted);
});

Deno.test("Places: a newcomer who waits is told when the last place is for good", async () => {
  const places = new Places(1, 60_000);
  const first = await enter(places, "a");
  const waiting = places.enter("a", never);
  first.authenticated();
  assert.equal(await waiting, undefined);
});

Deno.test("Places: waiting can be given up, and only so many wait", async () => {
  const places = new Places(1, 60_000);
  await enter(places, "a");
  const { signal, abort } = withAbort();
  const waiting = Array.from({ length: 16 }, () => places.enter("b", signal));
  assert.equal(await places.enter("b", signal), undefined);
  abort();
  for (const one of waiting) await assert.rejects(one, /given up/);
  const again = withAbort();
  const after = places.enter("b", again.signal); // the others no longer count
  again.abort();
  await assert.rejects(after, /given up/);
});

Deno.test("Places takes from the source that holds most, and there the oldest", async () => {
  const places = new PlacesForAll(4);
  const lone = await enter(places, "lone");
  const flood = [];
  for (let i = 0; i < 3; i++) flood.push(await enter(places, "flood"));
  await enter(places, "other");
  assert.deepEqual(flood.map((place) => place.givenAway.aborted), [true, false, false]);
  assert(!lone.givenAway.aborted);
});

Deno.test("Places: two hundred silent strangers keep nobody out", async () => {
  const places = new Places(100);
  for (let i = 0; i < 200; i++) await enter(places, "attacker");
  const friend = await enter(places, "friend");
  for (let i = 0; i < 200; i++) await enter(places, "attacker");
  assert(!friend.givenAway.aborted);
  friend.authenticated();
  for (let i = 0; i < 200; i++) await enter(places, "attacker");
  assert(!friend.givenAway.aborted);
});

Deno.test("Places counts right, whatever comes in whichever order", async () => {
  const actions = fc.array(
    fc.tuple(
      fc.constantFrom("enter", "authenticated", "leave"),
      fc.nat(30),
      fc.constantFrom("a", "b", "c"),
    ),
    { maxLength: 200 },
  );
  const limits = fc.integer({ min: 1, max: 8 });
  await fc.assert(fc.asyncProperty(limits, actions, async (limit, actions) => {
    const places = new PlacesForAll(limit);
    const all: { place: Place; authenticated: boolean; left: boolean }[] = [];
    for (const [action, which, source] of actions) {
      if (action === "enter") {
        const place = await places.enter(source, never);
        if (place) all.push({ place, authenticated: false, left: false });
      } else if (all.length > 0) {
        const one = all[which % all.length]!;
        if (action === "authenticated" && !one.left && !one.place.givenAway.aborted) {
          one.authenticated = true;
        }
        if (action === "leave") one.left = true;
        one.place[action as "authenticated" | "leave"]();
      }
      const present = all.filter(({ place, left }) => !left && !place.givenAway.aborted);
      assert.equal(places.taken, present.length);
      assert(places.taken <= limit);
      assert(all.every(({ authenticated, place }) => !authenticated || !place.givenAway.aborted));
    }
  }));
});

function withAbort(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController();
  return {
    signal: controller.signal,
    abort: () => controller.abort(new Error("given up")),
  };
}
