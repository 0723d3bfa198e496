import assert from "node:assert/strict";
import { onResolved } from "./on_resolved.ts";

Deno.test("onResolved calls back everyone, also those that come later", async () => {
  const { promise, resolve } = Promise.withResolvers<number>();
  const seen: string[] = [];
  const see = (value: number) => seen.push(`${value}`);
  onResolved(promise, see);
  onResolved(promise, see);
  resolve(7);
  await promise;
  assert.deepEqual(seen, ["7", "7"]);
  onResolved(promise, (value) => seen.push(`late ${value}`));
  await promise;
  assert.deepEqual(seen, ["7", "7", "late 7"]);
});

Deno.test("onResolved does not call back once it is disposed of, and keeps nothing", async () => {
  const { promise, resolve } = Promise.withResolvers<number>();
  const kept: WeakRef<object>[] = [];
  for (let i = 0; i < 10; i++) {
    const big = { i };
    kept.push(new WeakRef(big));
    onResolved(promise, () => assert.fail(`${big.i}`))[Symbol.dispose]();
  }
  await new Promise((next) => setTimeout(next));
  (globalThis as { gc?: () => void }).gc!();
  await new Promise((next) => setTimeout(next));
  assert(kept.filter((ref) => ref.deref()).length <= 1);
  resolve(7);
  await promise;
});
