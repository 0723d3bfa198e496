import assert from "node:assert/strict";
import { ConnectionUse } from "./connection_use.ts";

/** Calls a function. @returns The times of the timers that it begins. */
function timersOf(begin: () => void): unknown[] {
  const begun: unknown[] = [], { setTimeout } = globalThis;
  const noting = (...args: Parameters<typeof setTimeout>) => {
    begun.push(args[1]);
    return setTimeout(...args);
  };
  Object.assign(globalThis, { setTimeout: noting });
  try {
    begin();
  } finally {
    Object.assign(globalThis, { setTimeout });
  }
  return begun;
}

Deno.test("ConnectionUse keeps a dialed connection for 60 s, an accepted one for 90 s, a stranger for 10 s", () => {
  using dialed = new ConnectionUse(true);
  using accepted = new ConnectionUse(false);
  assert.deepEqual(timersOf(() => dialed.restartTimer()), [60_000]);
  assert.deepEqual(timersOf(() => accepted.restartTimer()), [10_000]);
  accepted.isAuthenticated = true;
  assert.deepEqual(timersOf(() => accepted.restartTimer()), [90_000]);
});

Deno.test("ConnectionUse begins its time with the end of the last session", () => {
  using use = new ConnectionUse(true);
  const timers = timersOf(() => {
    use.sessionBegan();
    use.sessionBegan();
    use.restartTimer(); // as a ping does
    use.sessionEnded();
  });
  assert.deepEqual(timers, []);
  assert.equal(use.idleSince, undefined);
  assert.deepEqual(timersOf(() => use.sessionEnded()), [60_000]);
  assert(use.idleSince !== undefined && !use.over.aborted);
});

Deno.test("ConnectionUse gives a stranger 10 s after a request, as after a ping", () => {
  using use = new ConnectionUse(false);
  use.requestBegan();
  assert.deepEqual(timersOf(() => use.requestEnded()), [10_000]);
  assert(!use.over.aborted);
});

Deno.test("ConnectionUse does not keep the connection of a stranger", () => {
  using use = new ConnectionUse(false);
  use.sessionBegan();
  assert.deepEqual(timersOf(() => use.sessionEnded()), []);
  assert(use.over.aborted);
});
