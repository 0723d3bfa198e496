import assert from "node:assert/strict";
import { ResponseSuppression } from "./mdns_suppression.ts";

/** Returns the least and the greatest of many delays. */
function range(suppression: ResponseSuppression, now: number): [number, number] {
  const delays = Array.from({ length: 2_000 }, () => suppression.delay(now));
  return [Math.min(...delays), Math.max(...delays)];
}

function assertNear([least, most]: [number, number], from: number, to: number): void {
  const slack = (to - from) / 20;
  assert(least >= from && least < from + slack, `${least}, not ${from}`);
  assert(most <= to && most > to - slack, `${most}, not ${to}`);
}

Deno.test("ResponseSuppression waits longer with more endpoints, and forgets those not heard again", () => {
  const suppression = new ResponseSuppression();
  assertNear(range(suppression, 0), 0, 50);
  for (let i = 0; i < 9; i++) suppression.heard(`${i}`, 0);
  suppression.heard("0", 0); // counts once
  assertNear(range(suppression, 10_000), 0, 500);
  assertNear(range(suppression, 11_000), 0, 50);
});

Deno.test("ResponseSuppression waits longer after an answer, until others have answered", () => {
  const suppression = new ResponseSuppression();
  for (let i = 0; i < 5; i++) suppression.heard(`${i}`, 0);
  suppression.answered(0);
  assertNear(range(suppression, 0), 300, 600);
  suppression.suppressed();
  assertNear(range(suppression, 0), 200, 500);
  for (let i = 0; i < 9; i++) suppression.suppressed();
  assertNear(range(suppression, 0), 0, 300);
});

Deno.test("ResponseSuppression limits the delay, however many endpoints are announced", () => {
  const suppression = new ResponseSuppression();
  for (let i = 0; i < 10_000; i++) suppression.heard(`${i}`, 0);
  suppression.answered(0);
  const [, most] = range(suppression, 0);
  assert(most > 2_500 && most < 3_100, `${most}`);
});
