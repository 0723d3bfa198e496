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
  race.add(["slow"], (signal) => {
    told = signal;
    return slow.promise;
  });
  race.add(["broken"], () => Promise.reject(new Error("broken")));
  race.add(["fast"], () => Promise.resolve("fast"));
  race.seal();
  assert.equal(await race.winner, "fast");
  assert(told!.aborted);
  slow.resolve("slow");
  await slow.promise;
  assert.deepEqual(late, ["slow"]);
  race.add(["too late"], () => assert.fail("entered after the end"));
});

Deno.test("Race: when none gets through, it fails as the last one did, and knows of each", async () => {
  const { race } = makeRace();
  const last = Promise.withResolvers<string>();
  race.add(["one", "two"], () => Promise.reject(new Error("first")));
  race.add(["three"], () => last.promise);
  race.seal();
  queueMicrotask(() => last.reject(new Error("last")));
  await assert.rejects(race.winner, /last/);
  assert.deepEqual([...race.outcomes], [["one", "first"], ["two", "first"], ["three", "last"]]);
});

Deno.test("Race: does not end while there may yet be an attempt", async () => {
  const { race } = makeRace();
  const nobody = race.reserve("later", "nobody came");
  race.add(["now"], () => Promise.reject(new Error("no")));
  race.seal();
  await new Promise((resolve) => setTimeout(resolve));
  race.add(["later"], () => Promise.resolve("later"));
  nobody();
  nobody();
  assert.equal(await race.winner, "later");
});

Deno.test("Race: without an attempt it fails at once", async () => {
  const { race } = makeRace();
  race.seal();
  await assert.rejects(race.winner, /there is no way/);
  assert.equal(race.outcomes.size, 0);
});

Deno.test("Race: once given up, nothing gets through", async () => {
  const { race, late } = makeRace();
  const slow = Promise.withResolvers<string>();
  race.add(["slow"], () => slow.promise);
  race.giveUp(new Error("enough"));
  slow.resolve("slow");
  await assert.rejects(race.winner, /enough/);
  assert.deepEqual(late, ["slow"]);
});
