/** A lane with a host whose clock is wrong. */

import assert from "node:assert/strict";
import { echo, makePair, randomBytes, sendByLane } from "./pair.ts";
import { scenario } from "./testenv.ts";

for (const date of ["1970-01-02", "2056-11-28"]) {
  scenario(
    `lane: is made although the clock of one host says ${date}`,
    { needs: ["faketime"] },
    async (env) => {
      const { network: { b: on }, dialed } = await makePair(env, "loopback", echo);
      const dialing = ["faketime", "--exclude-monotonic", date, "git-annex-p2p-iroh", dialed];
      const dialer = await env.start(dialing, {
        on,
        stdin: "open",
        env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
      });
      const lane = await sendByLane(dialer, randomBytes(20_000_000), "TLS");
      assert.match(lane, / (127\.0\.0\.1|\[::1\]):\d+\n/);
      assert.equal((await dialer.ended).code, 0);
    },
  );
}
