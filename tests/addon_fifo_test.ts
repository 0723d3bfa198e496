/** The compiled program, in a temporary folder in which another user has put a FIFO. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { scenario } from "./testenv.ts";

/** Timeout for the program to load iroh. A hang is what the test looks for. */
const LOAD_TIMEOUT_MS = 20_000;

scenario("a FIFO named package.json in the temporary folder does not stop the program", {
  needs: ["compiled", "timeout"],
}, async (env) => {
  const on = await env.host("a");
  await env.ok(["mkfifo", join(on.env.TMPDIR!, "package.json")], { on });
  await env.ok(["git", "init", "-q", "repository"], { on });
  const made = await env.iroh(["address"], { on, cwd: join(on.dir, "repository") });
  const address = made.stdout.trim();
  // From the copy in the cache folder, and then without one.
  for (const XDG_CACHE_HOME of [on.env.XDG_CACHE_HOME!, "relative"]) {
    const dial = ["git-annex-p2p-iroh", address];
    const run = await env.run(["timeout", "-s", "KILL", `${LOAD_TIMEOUT_MS / 1000}`, ...dial], {
      on,
      env: { XDG_CACHE_HOME, GIT_ANNEX_P2P_IROH_LOG: "debug" },
      stdin: "",
    });
    assert.equal(run.code, 1, run.stderr);
    assert.match(run.stderr, /cannot reach the peer/);
  }
});
