import assert from "node:assert/strict";
import { Race } from "./race.ts";

function makeRace(): { race: Race<string>; late: string[] } {
  const late: string[] = [];
  const race = new Race<string>((value) => late.push(value), (error) => (error as Error).message);
  return { race, late };
}

Deno.test("Race: the first attempt that gets through wins, and the others are told", async () => {
  const { race, late } = makeRace();
  const slow = Promise.withResolvers<string>();
  let told: AbortSignal | undefined;
  race.enter(["slow"], (signal) => {
    told = signal;
    return slow.promise;
  });
  race.enter(["broken"], () => Promise.reject(new Error("broken")));
  race.enter(["fast"], () => Promise.resolve("fast"));
  race.start();
  assert.equal(await race.over, "fast");
  assert(told!.aborted);
  slow.resolve("slow");
  await slow.promise;
  assert.deepEqual(late, ["slow"]);
  race.enter(["too late"], () => assert.fail("entered after the end"));
});

Deno.test("Race: when none gets through, it fails as the last one did, and knows of each", async () => {
  const { race } = makeRace();
  const last = Promise.withResolvers<string>();
  race.enter(["one", "two"], () => Promise.reject(new Error("first")));
  race.enter(["three"], () => last.promise);
  race.start();
  queueMicrotask(() => last.reject(new Error("last")));
  await assert.rejects(race.over, /last/);
  assert.deepEqual([...race.outcomes], [["one", "first"], ["two", "first"], ["three", "last"]]);
});

Deno.test("Race: does not end while there may yet be an attempt", async () => {
  const { race } = makeRace();
  const nobody = race.expect("later", "nobody came");
  race.enter(["now"], () => Promise.reject(new Error("no")));
  race.start();
  await new Promise((resolve) => setTimeout(resolve));
  race.enter(["later"], () => Promise.resolve("later"));
  nobody();
  nobody();
  assert.equal(await race.over, "later");
});

Deno.test("Race: without an attempt it fails at once", async () => {
  const { race } = makeRace();
  race.start();
  await assert.rejects(race.over, /there is no way/);
  assert.equal(race.outcomes.size, 0);
});

Deno.test("Race: once given up, nothing gets through", async () => {
  const { race, late } = makeRace();
  const slow = Promise.withResolvers<string>();
  race.enter(["slow"], () => slow.promise);
  race.giveUp(new Error("enough"));
  slow.resolve("slow");
  await assert.rejects(race.over, /enough/);
  assert.deepEqual(late, ["slow"]);
});
