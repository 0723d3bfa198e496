/**
 * deno task test [ARGUMENT...]
 *
 * Runs every test, in a sandbox (see sandbox.ts), with git-annex and Magic Wormhole at hand, which are
 * installed if need be. Arguments go to `deno test`: `deno task test --filter relay`. With the
 * variable GIT_ANNEX_P2P_IROH_PROGRAM the tests of the whole program run that program; without it
 * they run it from source. To see that a session with git-annex ends well time and again:
 * `GIT_ANNEX_P2P_IROH_REPEAT=20 deno task test tests/annex_test.ts --filter "sync --content"`.
 */

import { dirname } from "node:path";
import { runInSandbox } from "./sandbox.ts";
import { pathWithGitAnnex, pathWithWormhole, ToolMissing } from "./tools.ts";

/** For everything, on a machine with two cores. */
const LIMIT_MS = 30 * 60_000;
/** Test files at once. */
const JOBS = "3";

async function main(): Promise<number> {
  Deno.chdir(dirname(import.meta.dirname!));
  // Before the sandbox, which has no network to download anything.
  const cached = await new Deno.Command(Deno.execPath(), {
    args: ["install", "--quiet", "--frozen"],
  }).spawn().status;
  if (!cached.success) return cached.code;
  for (const pathWith of [pathWithGitAnnex, pathWithWormhole]) {
    try {
      Deno.env.set("PATH", await pathWith(Deno.env.get("PATH") ?? ""));
    } catch (error) {
      if (!(error instanceof ToolMissing)) throw error;
      console.log(`${error.message}: tests that need it are skipped`);
    }
  }
  // Side by side, since many a test waits for a time limit of the program's.
  Deno.env.set("DENO_JOBS", Deno.env.get("DENO_JOBS") ?? JOBS);
  // For tests that look for what is collected; the program itself knows it by another name.
  const gc = "--v8-flags=--expose-gc";
  const flags = [gc, "--allow-all", "--frozen", "--cached-only", "--parallel"];
  return await runInSandbox([Deno.execPath(), "test", ...flags, ...Deno.args], LIMIT_MS);
}

if (import.meta.main) Deno.exit(await main());
