import assert from "node:assert/strict";
import fc from "fast-check";
import { GivenAway, type Place, Places } from "./places.ts";

Deno.test("Places takes no newcomer when all places are held by authenticated peers", () => {
  const places = new Places(2);
  for (const source of ["a", "b"]) places.enter(source)!.authenticated();
  assert.equal(places.enter("c"), undefined);
});

Deno.test("Places gives a stranger's place to a newcomer, and never an authenticated peer's", () => {
  let now = 0;
  const places = new Places(2, () => now);
  const friend = places.enter("a")!;
  friend.authenticated();
  const stranger = places.enter("b")!;
  now = 1_000;
  const newcomer = places.enter("c")!;
  assert(stranger.givenAway.aborted && stranger.givenAway.reason instanceof GivenAway);
  assert(!friend.givenAway.aborted && !newcomer.givenAway.aborted);
});

Deno.test("Places: ways by which one dialer comes at once do not take each other's place", () => {
  let now = 0;
  const places = new Places(2, () => now);
  places.enter("a")!.authenticated();
  const direct = places.enter("10.0.0.1")!;
  now = 999;
  assert.equal(places.enter("relay"), undefined);
  assert(!direct.givenAway.aborted);
});

Deno.test("Places takes from the source that holds most, and there the oldest", () => {
  const places = new Places(4);
  const lone = places.enter("lone")!;
  const flood = [places.enter("flood")!, places.enter("flood")!, places.enter("flood")!];
  places.enter("other");
  assert.deepEqual(flood.map((place) => place.givenAway.aborted), [true, false, false]);
  assert(!lone.givenAway.aborted);
});

Deno.test("Places: two hundred silent strangers keep nobody out", () => {
  const places = new Places(100);
  for (let i = 0; i < 200; i++) places.enter("attacker");
  const friend = places.enter("friend")!;
  for (let i = 0; i < 200; i++) places.enter("attacker");
  assert(!friend.givenAway.aborted);
  friend.authenticated();
  for (let i = 0; i < 200; i++) places.enter(`attacker ${i}`);
  assert(!friend.givenAway.aborted);
});

Deno.test("Places counts right, whatever comes in whichever order", () => {
  const actions = fc.array(
    fc.tuple(
      fc.constantFrom("enter", "authenticated", "leave"),
      fc.nat(30),
      fc.constantFrom("a", "b", "c"),
    ),
    { maxLength: 200 },
  );
  fc.assert(fc.property(fc.integer({ min: 1, max: 8 }), actions, (limit, actions) => {
    const places = new Places(limit);
    const all: { place: Place; authenticated: boolean; left: boolean }[] = [];
    for (const [action, which, source] of actions) {
      if (action === "enter") {
        const place = places.enter(source);
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
