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
import { cacheBundler } from "./packages.ts";
import { runInSandbox } from "./sandbox.ts";
import { pathWithGitAnnex, pathWithWormhole, ToolMissing } from "./tools.ts";

/** Timeout for all tests; twice what they take on two cores. */
const TESTS_TIMEOUT_MS = 15 * 60_000;
/**
 * Test files that run at once. More than cores, since many a test waits for a time limit; tests/testenv.ts
 * limits how many of the others run at once.
 */
const JOBS = "8";
/** Folders with tests. The unit tests come first, since they are short. */
const FOLDERS = ["lib", "tasks", "tests"];
/** Text in files whose tests mostly wait (tests/testenv.ts). */
const WAITS = "waits: true";

async function main(): Promise<number> {
  Deno.chdir(dirname(import.meta.dirname!));
  // The sandbox has no network for downloads.
  const cached = await new Deno.Command(Deno.execPath(), {
    args: ["install", "--quiet", "--frozen"],
  }).spawn().status;
  if (!cached.success) return cached.code;
  await cacheBundler();
  for (const pathWith of [pathWithGitAnnex, pathWithWormhole]) {
    try {
      Deno.env.set("PATH", await pathWith(Deno.env.get("PATH") ?? ""));
    } catch (error) {
      if (!(error instanceof ToolMissing)) throw error;
      console.log(`${error.message}: tests that need it are skipped`);
    }
  }
  Deno.env.set("DENO_JOBS", Deno.env.get("DENO_JOBS") ?? JOBS);
  const flags = [
    // For tests that collect garbage. The program itself has it under another name (run_flags.ts).
    "--v8-flags=--expose-gc",
    "--preload=tests/default_timeout.ts",
    "--preload=tests/iroh_calls.ts",
    "--allow-all",
    "--frozen",
    "--cached-only",
    "--parallel",
  ];
  const files = Deno.args.some(exists) ? [] : filesInOrder();
  const command = [Deno.execPath(), "test", ...flags, ...Deno.args, ...files];
  return await runInSandbox(command, TESTS_TIMEOUT_MS);
}

/**
 * Returns all test files in the order in which they begin. Files whose tests wait alternate with the others, so
 * that they run beside them, and none of them begins last.
 */
function filesInOrder(): string[] {
  const files = FOLDERS.flatMap(testFiles);
  const waiting = files.filter((path) => Deno.readTextFileSync(path).includes(WAITS));
  const busy = files.filter((path) => !waiting.includes(path));
  const alternating = waiting.flatMap((path, i) => [path, ...busy.slice(i, i + 1)]);
  return [...alternating, ...busy.slice(waiting.length)];
}

function testFiles(folder: string): string[] {
  const entries = [...Deno.readDirSync(folder)].toSorted((a, b) => a.name < b.name ? -1 : 1);
  return entries.flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    if (isDirectory) return testFiles(path);
    return name.endsWith("_test.ts") ? [path] : [];
  });
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false; // not there
  }
}

if (import.meta.main) Deno.exit(await main());
