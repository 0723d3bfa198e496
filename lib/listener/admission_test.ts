import assert from "node:assert/strict";
import fc from "fast-check";
import { eventLoopTurns } from "../../tests/event_loop.ts";
import { Admission, type AdmissionOptions, Evicted, type Permit } from "./admission.ts";

const GRACE_MS = 1_000;
const never = new AbortController().signal;
const FLOOD = "198.51.100.1";

/** A clock that a test moves. */
class FakeClock implements Pick<AdmissionOptions, "now" | "delay"> {
  #now = 0;
  #timers = new Set<{ at: number; resolve: () => void }>();

  readonly now = (): number => this.#now;

  readonly delay = (milliseconds: number, signal: AbortSignal): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = { at: this.#now + milliseconds, resolve };
    this.#timers.add(timer);
    signal.addEventListener("abort", () => {
      this.#timers.delete(timer);
      reject(signal.reason);
    });
    return promise;
  };

  async pass(milliseconds: number): Promise<void> {
    this.#now += milliseconds;
    for (const { at, resolve } of this.#timers) if (at <= this.#now) resolve();
    await eventLoopTurns(2);
  }
}

/** Admission of peers that go as soon as they are evicted. */
class Scene {
  readonly clock = new FakeClock();
  readonly admission: Admission;
  readonly evicted: string[] = [];

  constructor(limit: number, options: Partial<AdmissionOptions> = {}) {
    this.admission = new Admission(limit, { ...this.clock, ...options });
  }

  /** Asks for a permit. */
  async ask(source: string, isKnown = false, signal = never): Promise<Permit | undefined> {
    const permit = await this.admission.acquire({ source, isKnown }, signal);
    permit?.evicted.addEventListener("abort", () => {
      this.evicted.push(source);
      permit.release();
    });
    return permit;
  }

  /** Gets a permit, at once. */
  async get(source: string): Promise<Permit> {
    const permit = await Promise.race([this.ask(source), eventLoopTurns(2)]);
    assert(permit, `no permit for ${source}`);
    return permit;
  }

  async fill(...sources: readonly string[]): Promise<Permit[]> {
    const permits = [];
    for (const source of sources) permits.push(await this.get(source));
    return permits;
  }
}

/** Whether a promise is pending for now. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol();
  return await Promise.race([promise, eventLoopTurns(2).then(() => pending)]) === pending;
}

Deno.test("Admission refuses a newcomer if authenticated peers hold all permits", async () => {
  const scene = new Scene(2);
  for (const permit of await scene.fill("a", "b")) permit.authenticated();
  assert.equal(await scene.ask("c"), undefined);
  assert.equal(await scene.ask("a", true), undefined);
});

Deno.test("Admission has spare permits beyond its limit, as many as it is told, and releases them once", async () => {
  const scene = new Scene(1), { admission } = scene;
  (await scene.get("a")).authenticated();
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
  const scene = new Scene(2);
  const [friend, stranger] = await scene.fill("a", "b");
  friend!.authenticated();
  await scene.clock.pass(GRACE_MS);
  const newcomer = await scene.get("c");
  assert(stranger!.evicted.reason instanceof Evicted);
  assert(!friend!.evicted.aborted && !newcomer.evicted.aborted);
});

Deno.test("Admission lets a newcomer wait until a permit is as old as its grace time", async () => {
  const scene = new Scene(4);
  await scene.fill("a", "b", "c", "d");
  const newcomer = scene.ask("e");
  await scene.clock.pass(GRACE_MS - 1);
  assert(await isPending(newcomer));
  assert.deepEqual(scene.evicted, []);
  await scene.clock.pass(1);
  assert(await newcomer);
  assert.deepEqual(scene.evicted, ["a"]);
});

for (const [ways, isAwaited] of [[3, true], [4, false]] as const) {
  const what = isAwaited ? "lets a newcomer wait for" : "takes a permit at once from";
  Deno.test(`Admission ${what} a source with ${ways} permits`, async () => {
    const scene = new Scene(ways);
    await scene.fill(...Array<string>(ways).fill("a"));
    assert.equal(await isPending(scene.ask("b")), isAwaited);
    assert.equal(scene.evicted.length, isAwaited ? 0 : 1);
  });
}

Deno.test("Admission evicts the oldest permit of the source that holds most", async () => {
  const scene = new Scene(4);
  await scene.get("lone");
  const flood = await scene.fill("many", "many", "many");
  await scene.clock.pass(GRACE_MS);
  await scene.get("other");
  assert.deepEqual(flood.map(({ evicted }) => evicted.aborted), [true, false, false]);
  assert.deepEqual(scene.evicted, ["many"]);
});

Deno.test("Admission evicts, among sources that hold as many, from the oldest", async () => {
  const scene = new Scene(4);
  await scene.fill("a", "b", "b", "a");
  await scene.clock.pass(GRACE_MS);
  await scene.get("c");
  assert.deepEqual(scene.evicted, ["a"]);
});

Deno.test("Admission counts an evicted permit until its release", async () => {
  const scene = new Scene(1);
  const permit = await scene.admission.acquire({ source: "a", isKnown: false }, never);
  await scene.clock.pass(GRACE_MS);
  const newcomer = scene.ask("b");
  assert(await isPending(newcomer));
  assert(permit!.evicted.aborted);
  assert.equal(scene.admission.inUse, 1);
  permit!.release();
  assert(await newcomer);
  assert.equal(scene.admission.inUse, 1);
});

Deno.test("Admission evicts one permit for each newcomer, and no more", async () => {
  const scene = new Scene(8);
  const permits = [];
  for (let i = 0; i < 8; i++) {
    permits.push(await scene.admission.acquire({ source: FLOOD, isKnown: false }, never));
  }
  const newcomers = ["a", "b"].map((source) => scene.ask(source));
  await eventLoopTurns(2);
  const leaving = permits.filter((permit) => permit!.evicted.aborted);
  assert.equal(leaving.length, 2);
  for (const permit of leaving) permit!.release();
  assert((await Promise.all(newcomers)).every((permit) => permit !== undefined));
  assert.equal(permits.filter((permit) => permit!.evicted.aborted).length, 2);
});

Deno.test("Admission gives one released permit to one of those who wait", async () => {
  const scene = new Scene(2), { admission } = scene;
  const stranger = { source: FLOOD, isKnown: false };
  const permits = [
    await admission.acquire(stranger, never),
    await admission.acquire(stranger, never),
  ];
  await scene.clock.pass(GRACE_MS);
  const newcomers = ["a", "b"].map((source) =>
    admission.acquire({ source, isKnown: false }, never)
  );
  assert(await isPending(Promise.race(newcomers)));
  permits[0]!.release();
  assert(await newcomers[0]);
  assert(await isPending(newcomers[1]!));
  assert.equal(admission.inUse, 2);
  permits[1]!.release();
  assert(await newcomers[1]);
});

Deno.test("Admission refuses a newcomer if an evicted permit is not released in time", async () => {
  const scene = new Scene(1);
  await scene.admission.acquire({ source: "a", isKnown: false }, never);
  const newcomer = scene.ask("b");
  await scene.clock.pass(GRACE_MS);
  assert(await isPending(newcomer));
  await scene.clock.pass(5_000 - GRACE_MS);
  assert.equal(await newcomer, undefined);
});

Deno.test("Admission gives a waiting newcomer the first permit that is released", async () => {
  const scene = new Scene(1);
  const first = await scene.get("a");
  const waiting = scene.ask("a");
  first.release();
  assert(await waiting);
  assert(!first.evicted.aborted);
});

Deno.test("Admission refuses a waiting newcomer once the last stranger has authenticated", async () => {
  const scene = new Scene(1);
  const first = await scene.get("a");
  const waiting = scene.ask("a");
  first.authenticated();
  assert.equal(await waiting, undefined);
});

Deno.test("Admission lets 8 newcomers of a source wait, 16 in all, and sessions of known peers", async () => {
  const scene = new Scene(1);
  await scene.get("a");
  const controller = new AbortController(), { signal } = controller;
  const ask = (source: string, count: number) =>
    Array.from({ length: count }, () => scene.ask(source, false, signal));
  const waiting = ask("b", 8);
  assert.equal(await scene.ask("b"), undefined);
  waiting.push(...ask("c", 8));
  assert.equal(await scene.ask("d"), undefined);
  const known = scene.ask("b", true, signal);
  assert(await isPending(known));
  controller.abort(new Error("given up"));
  for (const one of [...waiting, known]) await assert.rejects(one, /given up/);
  assert(await isPending(scene.ask("b"))); // the others no longer count
});

Deno.test("Admission keeps a friend's permit although 200 silent strangers arrive", async () => {
  const scene = new Scene(100);
  const flood = Array<string>(200).fill(FLOOD);
  await scene.fill(...flood);
  const friend = await scene.get("friend");
  await scene.fill(...flood);
  assert(!friend.evicted.aborted);
  friend.authenticated();
  await scene.fill(...flood);
  assert(!friend.evicted.aborted);
});

Deno.test("Admission is crowded once strangers hold over a quarter of what others leave", async () => {
  const scene = new Scene(8);
  await scene.fill("a", "a");
  assert(!scene.admission.isCrowded);
  const [third] = await scene.fill("a");
  assert(scene.admission.isCrowded);
  third!.authenticated(); // seven permits are left, and two in use
  assert(scene.admission.isCrowded);
  const another = new Scene(8);
  for (const permit of await another.fill("a", "b", "c", "d")) permit.authenticated();
  await another.fill("a");
  assert(!another.admission.isCrowded);
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
    const admission = new Admission(limit, { graceMs: 0 });
    const all: { permit: Permit; authenticated: boolean; released: boolean }[] = [];
    for (const [action, which, source] of actions) {
      if (action === "acquire") {
        const permit = await admission.acquire({ source, isKnown: false }, never);
        if (permit) all.push({ permit, authenticated: false, released: false });
        permit?.evicted.addEventListener("abort", () => permit.release());
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
