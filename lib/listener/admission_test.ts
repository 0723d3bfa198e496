import assert from "node:assert/strict";
import fc from "fast-check";
import { Admission, Evicted, type Permit } from "./admission.ts";

const GRACE_MS = 50;
const never = new AbortController().signal;

/** Admission without a grace time, so that no newcomer waits. */
class AdmissionWithoutGrace extends Admission {
  constructor(limit: number) {
    super(limit, 0);
  }
}

/** Acquires a permit; fails if there is none. */
async function acquire(admission: Admission, source: string): Promise<Permit> {
  const permit = await admission.acquire(source, never);
  assert(permit);
  return permit;
}

Deno.test("Admission refuses a newcomer if authenticated peers hold all permits", async () => {
  const admission = new Admission(2);
  for (const source of ["a", "b"]) (await acquire(admission, source)).authenticated();
  assert.equal(await admission.acquire("c", never), undefined);
});

Deno.test("Admission has spare permits beyond its limit, as many as it is told, and releases them once", async () => {
  const admission = new Admission(1);
  (await acquire(admission, "a")).authenticated();
  assert.equal(admission.acquireSpare(0), undefined);
  const spare = admission.acquireSpare(1);
  assert(spare?.isSpare);
  assert.equal(admission.acquireSpare(1), undefined);
  spare.authenticated();
  assert.equal(admission.inUse, 1);
  spare.release();
  spare.release();
  assert(admission.acquireSpare(1));
  assert.equal(admission.acquireSpare(1), undefined);
});

Deno.test("Admission gives a stranger's permit to a newcomer, and never an authenticated peer's", async () => {
  const admission = new AdmissionWithoutGrace(2);
  const friend = await acquire(admission, "a");
  friend.authenticated();
  const stranger = await acquire(admission, "b");
  const newcomer = await acquire(admission, "c");
  assert(stranger.evicted.aborted && stranger.evicted.reason instanceof Evicted);
  assert(!friend.evicted.aborted && !newcomer.evicted.aborted);
});

Deno.test("Admission lets a newcomer wait for a new permit to age, unless a flood holds it", async () => {
  const admission = new Admission(4, GRACE_MS);
  const began = performance.now();
  (await acquire(admission, "friend")).authenticated();
  const routes = [await acquire(admission, "10.0.0.1"), await acquire(admission, "10.0.0.1")];
  const relay = await acquire(admission, "relay");
  const newcomer = await acquire(admission, "other");
  assert(performance.now() - began >= GRACE_MS - 1);
  assert.deepEqual([...routes, relay].map((permit) => permit.evicted.aborted), [
    true,
    false,
    false,
  ]);

  const flooded = new Admission(4);
  const flood = [];
  for (let i = 0; i < 5; i++) flood.push(await acquire(flooded, "flood"));
  assert(flood[0]!.evicted.aborted);
  newcomer.release();
});

Deno.test("Admission gives a waiting newcomer the first permit that is released", async () => {
  const admission = new Admission(1, 60_000);
  const first = await acquire(admission, "a");
  const waiting = admission.acquire("a", never);
  first.release();
  assert(await waiting);
  assert(!first.evicted.aborted);
});

Deno.test("Admission refuses a waiting newcomer once the last stranger has authenticated", async () => {
  const admission = new Admission(1, 60_000);
  const first = await acquire(admission, "a");
  const waiting = admission.acquire("a", never);
  first.authenticated();
  assert.equal(await waiting, undefined);
});

Deno.test("Admission lets at most 16 newcomers wait, and each can give up", async () => {
  const admission = new Admission(1, 60_000);
  await acquire(admission, "a");
  const { signal, abort } = withAbort();
  const waiting = Array.from({ length: 16 }, () => admission.acquire("b", signal));
  assert.equal(await admission.acquire("b", signal), undefined);
  abort();
  for (const one of waiting) await assert.rejects(one, /given up/);
  const again = withAbort();
  const after = admission.acquire("b", again.signal); // the others no longer count
  again.abort();
  await assert.rejects(after, /given up/);
});

Deno.test("Admission evicts the oldest stranger of the source that holds most permits", async () => {
  const admission = new AdmissionWithoutGrace(4);
  const lone = await acquire(admission, "lone");
  const flood = [];
  for (let i = 0; i < 3; i++) flood.push(await acquire(admission, "flood"));
  await acquire(admission, "other");
  assert.deepEqual(flood.map((permit) => permit.evicted.aborted), [true, false, false]);
  assert(!lone.evicted.aborted);
});

Deno.test("Admission keeps a friend's permit although 200 silent strangers arrive", async () => {
  const admission = new Admission(100);
  for (let i = 0; i < 200; i++) await acquire(admission, "attacker");
  const friend = await acquire(admission, "friend");
  for (let i = 0; i < 200; i++) await acquire(admission, "attacker");
  assert(!friend.evicted.aborted);
  friend.authenticated();
  for (let i = 0; i < 200; i++) await acquire(admission, "attacker");
  assert(!friend.evicted.aborted);
});

Deno.test("Admission counts permits right in any order of events", async () => {
  const actions = fc.array(
    fc.tuple(
      fc.constantFrom("acquire", "authenticated", "release"),
      fc.nat(30),
      fc.constantFrom("a", "b", "c"),
    ),
    { maxLength: 200 },
  );
  const limits = fc.integer({ min: 1, max: 8 });
  await fc.assert(fc.asyncProperty(limits, actions, async (limit, actions) => {
    const admission = new AdmissionWithoutGrace(limit);
    const all: { permit: Permit; authenticated: boolean; released: boolean }[] = [];
    for (const [action, which, source] of actions) {
      if (action === "acquire") {
        const permit = await admission.acquire(source, never);
        if (permit) all.push({ permit, authenticated: false, released: false });
      } else if (all.length > 0) {
        const one = all[which % all.length]!;
        if (action === "authenticated" && !one.released && !one.permit.evicted.aborted) {
          one.authenticated = true;
        }
        if (action === "release") one.released = true;
        one.permit[action as "authenticated" | "release"]();
      }
      const present = all.filter(({ permit, released }) => !released && !permit.evicted.aborted);
      assert.equal(admission.inUse, present.length);
      assert(admission.inUse <= limit);
      assert(
        all.every(({ authenticated, permit }) => !authenticated || !permit.evicted.aborted),
      );
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
