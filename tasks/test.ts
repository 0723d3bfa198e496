/**
 * deno task test [ARGUMENT...]
 *
 * Runs the tests in a sandbox (sandbox.ts). If git-annex or Magic Wormhole is missing, it installs them
 * first. Arguments go to `deno test`, as in `deno task test --filter relay`.
 *
 * If the variable GIT_ANNEX_P2P_IROH_PROGRAM names a program, the tests of the whole program run that one,
 * and not the source. To repeat a session with git-annex:
 * `GIT_ANNEX_P2P_IROH_REPEAT=20 deno task test tests/annex_test.ts --filter "sync --content"`.
 */

import { dirname } from "node:path";
import { runInSandbox } from "./sandbox.ts";
import { pathWithGitAnnex, pathWithWormhole, ToolMissing } from "./tools.ts";

/** Timeout for all tests, on a machine with two cores. */
const TESTS_TIMEOUT_MS = 30 * 60_000;
/** Test files that run at once. More than cores, since many a test waits for a time limit. */
const JOBS = "3";

async function main(): Promise<number> {
  Deno.chdir(dirname(import.meta.dirname!));
  // The sandbox has no network for downloads.
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
  Deno.env.set("DENO_JOBS", Deno.env.get("DENO_JOBS") ?? JOBS);
  // For tests that collect garbage. The program itself has it under another name (run_flags.ts).
  const gc = "--v8-flags=--expose-gc";
  const flags = [gc, "--allow-all", "--frozen", "--cached-only", "--parallel"];
  return await runInSandbox([Deno.execPath(), "test", ...flags, ...Deno.args], TESTS_TIMEOUT_MS);
}

if (import.meta.main) Deno.exit(await main());
