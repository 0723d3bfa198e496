import assert from "node:assert/strict";
import { ResponseSuppression } from "./mdns_suppression.ts";

/** The least and the most of many delays. */
function range(politeness: ResponseSuppression, now: number): [number, number] {
  const delays = Array.from({ length: 2_000 }, () => politeness.delay(now));
  return [Math.min(...delays), Math.max(...delays)];
}

function assertNear([least, most]: [number, number], from: number, to: number): void {
  const slack = (to - from) / 20;
  assert(least >= from && least < from + slack, `${least}, not ${from}`);
  assert(most <= to && most > to - slack, `${most}, not ${to}`);
}

Deno.test("ResponseSuppression waits the longer the more there are, and forgets who is not heard again", () => {
  const politeness = new ResponseSuppression();
  assertNear(range(politeness, 0), 0, 50);
  for (let i = 0; i < 9; i++) politeness.heard(`${i}`, 0);
  politeness.heard("0", 0); // is one, however often
  assertNear(range(politeness, 10_000), 0, 500);
  assertNear(range(politeness, 11_000), 0, 50);
});

Deno.test("ResponseSuppression stands back after having answered, until others have", () => {
  const politeness = new ResponseSuppression();
  for (let i = 0; i < 5; i++) politeness.heard(`${i}`, 0);
  politeness.answered(0);
  assertNear(range(politeness, 0), 300, 600);
  politeness.suppressed();
  assertNear(range(politeness, 0), 200, 500);
  for (let i = 0; i < 9; i++) politeness.suppressed();
  assertNear(range(politeness, 0), 0, 300);
});

Deno.test("ResponseSuppression has an end, whoever claims to be there", () => {
  const politeness = new ResponseSuppression();
  for (let i = 0; i < 10_000; i++) politeness.heard(`${i}`, 0);
  politeness.answered(0);
  const [, most] = range(politeness, 0);
  assert(most > 2_500 && most < 3_100, `${most}`);
});
