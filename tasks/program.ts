/** Starts the program for tests, demo and benchmarks, under its name on PATH. */

import { dirname, join } from "node:path";
import { RUN_FLAGS } from "./run_flags.ts";

/** Variable that names a compiled program. */
const COMPILED = "GIT_ANNEX_P2P_IROH_PROGRAM";
const root = dirname(import.meta.dirname!);

/** Tells whether that is a compiled program. */
export function isCompiled(): boolean {
  return Boolean(Deno.env.get(COMPILED));
}

/** Returns the command that starts the program: the compiled one if the variable names it, else the source. */
export function programCommand(): string[] {
  const compiled = Deno.env.get(COMPILED);
  if (compiled) return [compiled];
  const config = ["--config", join(root, "deno.json"), "--frozen", "--cached-only", "--no-check"];
  return [Deno.execPath(), "run", "--quiet", ...config, ...RUN_FLAGS, join(root, "main.ts")];
}

/** Writes a script `git-annex-p2p-iroh` into a folder. */
export async function installProgram(folder: string): Promise<void> {
  const command = programCommand().map((word) => `'${word}'`).join(" ");
  await Deno.writeTextFile(
    join(folder, "git-annex-p2p-iroh"),
    `#!/bin/sh\nexec ${command} "$@"\n`,
    { mode: 0o755 },
  );
}

/** Returns Deno's cache folder, for a process whose HOME is another one. */
export function denoDir(): string {
  const { HOME, XDG_CACHE_HOME, DENO_DIR } = Deno.env.toObject();
  const cache = Deno.build.os === "darwin"
    ? join(HOME!, "Library", "Caches")
    : join(HOME!, ".cache");
  return DENO_DIR ?? join(XDG_CACHE_HOME ?? cache, "deno");
}
