import assert from "node:assert/strict";
import { RelayWatch } from "./relay_watch.ts";

const HOME = "https://home.example/", OTHER = "https://other.example/";

/** Watches an endpoint that answers with each relay in turn. @returns What was reported. */
async function reported(
  relays: readonly (string | undefined)[],
  online: Promise<void>,
): Promise<string[]> {
  const stop = new AbortController(), reports: string[] = [];
  let looks = 0;
  const endpoint = {
    knownAddresses: () => ({ relay: relays[Math.min(looks, relays.length - 1)] }),
    online: () => online,
  };
  const watch = new RelayWatch(endpoint, stop.signal);
  await online.catch(() => {});
  const timer = setInterval(() => ++looks > relays.length && stop.abort(), 3);
  await watch.reportTo((message) => reports.push(message), 0);
  clearInterval(timer);
  return reports;
}

Deno.test("RelayWatch reports each relay through which the listener can be reached", async () => {
  const relays = [undefined, HOME, HOME, undefined, OTHER];
  assert.deepEqual(await reported(relays, Promise.resolve()), [
    `reachable through relay ${HOME}`,
    "no relay at present",
    `reachable through relay ${OTHER}`,
  ]);
});

Deno.test("RelayWatch reports once that a relay answers and does not accept the repository", async () => {
  const never = Promise.reject(new Error("the listener stops"));
  assert.deepEqual(await reported(Array(200).fill(HOME), never), [
    `relay ${HOME} does not accept this repository; run git-annex-p2p-iroh doctor`,
  ]);
  assert.deepEqual(await reported(Array(200).fill(undefined), never), []);
});

Deno.test("RelayWatch names no relay that has not accepted the listener", async () => {
  const stop = new AbortController(), accepted = Promise.withResolvers<void>();
  const endpoint = { knownAddresses: () => ({ relay: HOME }), online: () => accepted.promise };
  const watch = new RelayWatch(endpoint, stop.signal);
  assert.equal(watch.relay, undefined);
  accepted.resolve();
  await accepted.promise;
  assert.equal(watch.relay, HOME);
});
