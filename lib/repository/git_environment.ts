/** What in the environment decides which repository git finds and which config files it reads. */

import { allVariables } from "../console/environment.ts";

/** Variables that name config files. */
const CONFIG_FILES = ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"];
/** Variables with paths. git takes a relative path from its current directory, which may be another one. */
const PATHS = ["XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"];
/** Variables of git that change neither. With any other of its variables, git itself is asked. */
const HARMLESS = new RegExp(
  "^GIT_(?:ANNEX|AUTHOR|COMMITTER|PS1|SSH|SSL|TRACE2?)(?:_|$)|" +
    "^GIT_(?:ASKPASS|EDITOR|EXEC_PATH|INDEX_FILE|LITERAL_PATHSPECS|MERGE_AUTOEDIT|OPTIONAL_LOCKS|" +
    "PAGER|PREFIX|PROTOCOL|REFLOG_ACTION|SEQUENCE_EDITOR|TERMINAL_PROMPT)$",
);

/**
 * Returns the environment of git as text. Two processes of one user with the same text read the same config
 * files in the same repository.
 *
 * @returns Undefined if only git knows what it does in this environment.
 */
export function gitEnvironment(env = allVariables()): string | undefined {
  if (!env) return undefined;
  const isUsual = Object.keys(env).every((name) =>
    !name.startsWith("GIT_") || HARMLESS.test(name) || CONFIG_FILES.includes(name)
  );
  const git = findGit(env.PATH);
  if (!isUsual || git === undefined || !env.HOME?.startsWith("/")) return undefined;
  if (PATHS.some((name) => env[name] && !env[name].startsWith("/"))) return undefined;
  const names = ["HOME", "XDG_CONFIG_HOME", ...CONFIG_FILES];
  return JSON.stringify([git, ...names.map((name) => env[name] ?? null)]);
}

/**
 * Identifies the git on PATH, since each git has a system config of its own. Copies of one git count as the
 * same: git puts its own folder, which has a copy, before PATH.
 */
function findGit(path = ""): string | undefined {
  for (const folder of path.split(":")) {
    if (!folder.startsWith("/")) return undefined; // relative to the current directory
    try {
      const { isFile, mode, size, mtime } = Deno.statSync(`${folder}/git`);
      if (isFile && mode! & 0o111) return `${size} ${mtime!.getTime()}`;
    } catch { /* not in this folder */ }
  }
  return undefined;
}
