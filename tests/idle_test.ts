/** The program keeps a connection on which nothing is sent. */

import assert from "node:assert/strict";
import { makePair, ROUTES, silence, toolsFor } from "./pair.ts";
import { scenario } from "./testenv.ts";

for (const route of ROUTES) {
  const needs = toolsFor(route);

  scenario(
    `${route}: an idle session stays open`,
    { waits: true, needs, limitMs: 90_000 },
    async (env) => {
      const pair = await makePair(env, route, silence);
      const dialer = await pair.connect({ stdin: "open" });
      await dialer.says(/AUTH-SUCCESS/);
      const start = performance.now();
      // Longer than any limit for a session that git-annex has not admitted.
      await env.until("35 s to pass", () => performance.now() - start > 35_000);
      assert.equal(dialer.code, undefined);
      await dialer.end();
      assert.equal((await dialer.ended).code, 0);
    },
  );
}
