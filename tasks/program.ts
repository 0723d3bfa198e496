/** The program as tests and demo start it, under its name on a PATH. */

import { dirname, join } from "node:path";
import { RUN_FLAGS } from "./run_flags.ts";

/** Names a compiled program. */
const COMPILED = "GIT_ANNEX_P2P_IROH_PROGRAM";
const root = dirname(import.meta.dirname!);

/** Whether it is a compiled one. */
export function isCompiled(): boolean {
  return Boolean(Deno.env.get(COMPILED));
}

/** The command that starts it: from source, or compiled where one is named. */
export function programCommand(): string[] {
  const compiled = Deno.env.get(COMPILED);
  if (compiled) return [compiled];
  const config = ["--config", join(root, "deno.json"), "--frozen", "--cached-only", "--no-check"];
  return [Deno.execPath(), "run", "--quiet", ...config, ...RUN_FLAGS, join(root, "main.ts")];
}

/** Makes a `git-annex-p2p-iroh` in a folder. */
export async function installProgram(folder: string): Promise<void> {
  const command = programCommand().map((word) => `'${word}'`).join(" ");
  await Deno.writeTextFile(
    join(folder, "git-annex-p2p-iroh"),
    `#!/bin/sh\nexec ${command} "$@"\n`,
    { mode: 0o755 },
  );
}

/** Where Deno keeps packages, for a user who has another home. */
export function denoDir(): string {
  const { HOME, XDG_CACHE_HOME, DENO_DIR } = Deno.env.toObject();
  const cache = Deno.build.os === "darwin"
    ? join(HOME!, "Library", "Caches")
    : join(HOME!, ".cache");
  return DENO_DIR ?? join(XDG_CACHE_HOME ?? cache, "deno");
}
