import assert from "node:assert/strict";
import { Race } from "./race.ts";

function makeRace(): { race: Race<string>; late: string[] } {
  const late: string[] = [];
  const race = new Race<string>((value) => late.push(value), (error) => (error as Error).message);
  return { race, late };
}

Deno.test("Race: the first attempt to succeed wins, and the others are aborted", async () => {
  const { race, late } = makeRace();
  const slow = Promise.withResolvers<string>();
  let slowSignal: AbortSignal | undefined;
  race.add(["slow"], (signal) => {
    slowSignal = signal;
    return slow.promise;
  });
  race.add(["broken"], () => Promise.reject(new Error("broken")));
  race.add(["fast"], () => Promise.resolve("fast"));
  race.seal();
  assert.equal(await race.winner, "fast");
  assert(slowSignal!.aborted);
  slow.resolve("slow");
  await slow.promise;
  assert.deepEqual(late, ["slow"]);
  race.add(["too late"], () => assert.fail("started after the end"));
});

Deno.test("Race: if all attempts fail, it has the last error, and the outcome of each route", async () => {
  const { race } = makeRace();
  const last = Promise.withResolvers<string>();
  race.add(["one", "two"], () => Promise.reject(new Error("first")));
  race.add(["three"], () => last.promise);
  race.seal();
  queueMicrotask(() => last.reject(new Error("last")));
  await assert.rejects(race.winner, /last/);
  assert.deepEqual([...race.outcomes], [["one", "first"], ["two", "first"], ["three", "last"]]);
});

Deno.test("Race: does not end while a route is reserved", async () => {
  const { race } = makeRace();
  const endReservation = race.reserve("later", "no attempt");
  race.add(["now"], () => Promise.reject(new Error("no")));
  race.seal();
  await new Promise((resolve) => setTimeout(resolve));
  race.add(["later"], () => Promise.resolve("later"));
  endReservation();
  endReservation();
  assert.equal(await race.winner, "later");
});

Deno.test("Race: fails at once without an attempt", async () => {
  const { race } = makeRace();
  race.seal();
  await assert.rejects(race.winner, /there is no route/);
  assert.equal(race.outcomes.size, 0);
});

Deno.test("Race: no attempt wins once it is given up", async () => {
  const { race, late } = makeRace();
  const slow = Promise.withResolvers<string>();
  race.add(["slow"], () => slow.promise);
  race.giveUp(new Error("enough"));
  slow.resolve("slow");
  await assert.rejects(race.winner, /enough/);
  assert.deepEqual(late, ["slow"]);
});
