import assert from "node:assert/strict";
import fc from "fast-check";
import type { FuzzTarget } from "../tests/fuzz/target.ts";
import { fuzz } from "./fuzz.ts";

/** Fails for about one input in a hundred. */
const faulty: FuzzTarget = {
  name: "faulty",
  property: fc.property(fc.nat(99), (number) => assert.notEqual(number, 42)),
  inputs: 10,
};
const sound: FuzzTarget = {
  name: "sound",
  property: fc.property(fc.nat(), (number) => assert(number >= 0)),
  inputs: 10,
};

Deno.test("fuzz() finds a fault, and finds it again with the seed that it returns", async () => {
  const found = await fuzz([sound, faulty], { seconds: 60, seed: 1 }, () => {});
  assert(found?.name === "faulty" && found.seed > 1);
  assert.match(found.message, /Counterexample: \[42\]/);
  const again = await fuzz([faulty], { seconds: 0.001, seed: found.seed }, () => {});
  assert.deepEqual([again?.seed, again?.message], [found.seed, found.message]);
});

Deno.test("fuzz() tries each target, and says how many inputs it had", async () => {
  const lines: string[] = [];
  assert.equal(
    await fuzz([sound], { seconds: 0.001, seed: 1 }, (line) => lines.push(line)),
    undefined,
  );
  assert.match(lines.join(), /^sound: \d+0 inputs$/);
});

Deno.test("fuzz() takes an error that no code handles for a failure", async () => {
  const property = fc.asyncProperty(fc.nat(), async () => {
    Promise.reject(new Error("nobody looks at this"));
    await new Promise((resolve) => setTimeout(resolve, 0));
  });
  const found = await fuzz(
    [{ name: "stray", property, inputs: 1 }],
    { seconds: 1, seed: 1 },
    () => {},
  );
  assert.match(found!.message, /no code handles: Error: nobody looks at this/);
});
