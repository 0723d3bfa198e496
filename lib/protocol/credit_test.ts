import assert from "node:assert/strict";
import fc from "fast-check";
import { ByteBudget } from "../streams/byte_budget.ts";
import { CreditWindow, INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES } from "./credit.ts";

const ENOUGH = 1 << 30;

/** A window, and the time that it sees. */
function makeWindow(budget = new ByteBudget(ENOUGH)) {
  const clock = { ms: 1_000 };
  const window = new CreditWindow(budget, () => clock.ms);
  window.mayGrow = true;
  /** Passes a whole window on within so many milliseconds. */
  const passOn = (ms: number, waiting = 0) => {
    clock.ms += ms;
    window.onPassedOn(window.bytes, waiting);
  };
  return { window, passOn, clock };
}

Deno.test("CreditWindow starts at 256 KiB and doubles up to 8 MiB while the reader keeps up", () => {
  const { window, passOn } = makeWindow(), sizes = [window.bytes];
  for (let i = 0; i < 7; i++) {
    passOn(100);
    sizes.push(window.bytes);
  }
  assert.deepEqual(sizes.map((bytes) => bytes / 1024), [
    256,
    512,
    1024,
    2048,
    4096,
    8192,
    8192,
    8192,
  ]);
  assert.deepEqual([INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES], [256 << 10, 8 << 20]);
});

Deno.test("CreditWindow does not grow for a stranger", () => {
  const { window, passOn } = makeWindow();
  window.mayGrow = false;
  for (let i = 0; i < 3; i++) passOn(1);
  assert.equal(window.bytes, INITIAL_WINDOW_BYTES);
});

Deno.test("CreditWindow does not grow while the reader is what is slow", () => {
  const { window, passOn } = makeWindow();
  for (let i = 0; i < 3; i++) passOn(200); // a window takes too long
  for (let i = 0; i < 3; i++) passOn(1, INITIAL_WINDOW_BYTES / 2); // half a window waits
  assert.equal(window.bytes, INITIAL_WINDOW_BYTES);
  passOn(199, INITIAL_WINDOW_BYTES / 2 - 1);
  assert.equal(window.bytes, 2 * INITIAL_WINDOW_BYTES);
});

Deno.test("CreditWindow counts what is passed on little by little", () => {
  const { window } = makeWindow();
  for (let i = 0; i < INITIAL_WINDOW_BYTES / 1024 - 1; i++) window.onPassedOn(1024, 0);
  assert.equal(window.bytes, INITIAL_WINDOW_BYTES);
  window.onPassedOn(1024, 0);
  assert.equal(window.bytes, 2 * INITIAL_WINDOW_BYTES);
});

Deno.test("CreditWindow gives back what it took, once", () => {
  const budget = new ByteBudget(INITIAL_WINDOW_BYTES);
  for (let i = 0; i < 3; i++) {
    const { window, passOn } = makeWindow(budget);
    passOn(1);
    assert.equal(window.bytes, 2 * INITIAL_WINDOW_BYTES, `window ${i}`);
    window[Symbol.dispose]();
    window[Symbol.dispose]();
    assert.equal(window.bytes, INITIAL_WINDOW_BYTES);
  }
  assert(!budget.take(INITIAL_WINDOW_BYTES + 1));
});

Deno.test("CreditWindow: windows together take no more than their budget", () => {
  const bytes = fc.integer({ min: 0, max: 40 * INITIAL_WINDOW_BYTES });
  const step = fc.tuple(fc.nat(4), fc.boolean());
  fc.assert(fc.property(bytes, fc.array(step, { maxLength: 60 }), (bytes, steps) => {
    const budget = new ByteBudget(bytes);
    const sides = Array.from({ length: 5 }, () => makeWindow(budget));
    for (const [which, isOver] of steps) {
      const { window, passOn } = sides[which]!;
      if (isOver) window[Symbol.dispose]();
      else passOn(1);
      const granted = sides.reduce((sum, side) => sum + side.window.bytes, 0);
      assert(granted - 5 * INITIAL_WINDOW_BYTES <= bytes);
    }
    for (const { window } of sides) window[Symbol.dispose]();
    assert(budget.take(bytes)); // all of it is there again
  }));
});
