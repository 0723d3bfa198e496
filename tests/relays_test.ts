/** Of several relays, one that is up is used. */

import assert from "node:assert/strict";
import { makeNetwork, startRelay } from "./network.ts";
import { listen, reachedWith } from "./relays.ts";
import { scenario } from "./testenv.ts";

/** Maximum time until the listener uses the relay in its address again, in seconds. iroh itself takes 50 or more. */
const MAX_RETURN_S = 45;

scenario("of several relays, the listener uses the one in its address as soon as that is back", {
  waits: true,
  needs: ["iroh-relay", "namespaces"],
  limitMs: 120_000,
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "relay only");
  const first = await startRelay(env, relay), second = await startRelay(env, relay);
  const both = `${first.url} ${second.url}`;
  await first.stop();
  const { address, listener } = await listen(env, a, both);
  await listener.says(new RegExp(`reachable through relay ${second.url}`));
  const early = await env.start(["git-annex-p2p-iroh", address], {
    on: b,
    stdin: "open",
    env: { GIT_ANNEX_P2P_IROH_RELAY: both, GIT_ANNEX_P2P_IROH_LOG: "debug" },
  });
  await early.write("early\n");
  await early.says(/early\n/);
  await early.says(new RegExp(`connected, found by relay ${second.url}`));
  await first.start();
  const begin = performance.now();
  await listener.says(new RegExp(`reachable through relay ${first.url}`));
  const seconds = (performance.now() - begin) / 1000;
  assert(seconds < MAX_RETURN_S, `${seconds} s`);
  await reachedWith(env, first.url, { on: b, address });
  // A session through the other relay continues.
  await early.write("late\n");
  await early.says(/late\n/);
  await early.end();
  assert.equal((await early.ended).code, 0);
});

scenario("of several relays, the listener uses another one while that in its address is down", {
  waits: true,
  needs: ["iroh-relay", "namespaces"],
  limitMs: 90_000,
}, async (env) => {
  const { a, b, relay } = await makeNetwork(env, "relay only");
  const first = await startRelay(env, relay), second = await startRelay(env, relay);
  const both = `${first.url} ${second.url}`;
  const { address, listener } = await listen(env, a, both);
  await listener.says(new RegExp(`reachable through relay ${first.url}`));
  assert.doesNotMatch(listener.stderr, new RegExp(second.url));
  await first.stop();
  await listener.says(new RegExp(`reachable through relay ${second.url}`));
  await reachedWith(env, both, { on: b, address });
  await first.start();
  await reachedWith(env, first.url, { on: b, address });
});
