/** Where a user's cache and temporary files belong, by the environment. */

import { tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";
import { type Environment, variable } from "../console/environment.ts";

/** Returns the cache folder of the user, as the system defines it; undefined if the environment lacks it. */
export function cacheFolder(
  env: Environment = variable,
  os: typeof Deno.build.os = Deno.build.os,
): string | undefined {
  if (os === "windows") return env("LOCALAPPDATA");
  const cache = env("XDG_CACHE_HOME"), home = env("HOME");
  // The XDG Base Directory Specification says to ignore a relative path.
  if (os !== "darwin" && cache?.startsWith("/")) return cache;
  return home && join(home, ...os === "darwin" ? ["Library", "Caches"] : [".cache"]);
}

/** Returns the folder for temporary files. */
export function temporaryFolder(env: Environment = variable): string {
  if (Deno.build.os === "windows") return tmpdir();
  const folder = env("TMPDIR");
  // A relative path would name another folder in each process.
  return folder && isAbsolute(folder) ? folder : "/tmp";
}
