import assert from "node:assert/strict";
import { standStill } from "../../tests/event_loop.ts";
import { SilenceWatch } from "./silence_watch.ts";

/** Resolves after so many milliseconds. */
function after(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

Deno.test("SilenceWatch waits for a packet for 25 s by default", () => {
  assert.equal(new SilenceWatch().timeoutMs, 25_000);
});

Deno.test("SilenceWatch tells of a connection without packets, and of no other", async () => {
  const watch = new SilenceWatch({ timeoutMs: 50, checkIntervalMs: 5 });
  const silent = Promise.withResolvers<void>();
  let packets = 0;
  using _live = watch.watch(() => packets++, () => assert.fail("packets have come"));
  using _disposed = watch.watch(() => 7n, silent.resolve);
  await silent.promise;
  assert(packets >= 10, `${packets} looks within the timeout`);
});

Deno.test("SilenceWatch tells nothing of a connection that is disposed of, and leaves no timer", async () => {
  const watch = new SilenceWatch({ timeoutMs: 10, checkIntervalMs: 2 });
  watch.watch(() => 7, () => assert.fail("it was disposed of"))[Symbol.dispose]();
  await after(30); // Deno's sanitizer finds a timer that is left
});

Deno.test("SilenceWatch does not count the time in which the process stood still", async () => {
  const watch = new SilenceWatch({ timeoutMs: 100, checkIntervalMs: 10 });
  let isSilent = false;
  using _ = watch.watch(() => 7, () => isSilent = true);
  standStill(300);
  await after(20);
  assert.equal(isSilent, false);
});
