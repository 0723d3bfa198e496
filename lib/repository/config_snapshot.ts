/**
 * Reads the git config of a repository, and tells later whether it still holds, without git. A listener thus
 * answers for its processes, which then need not run git.
 */

import { dirname, isAbsolute, join, resolve } from "node:path";
import { variable } from "../console/environment.ts";
import { fileState } from "../platform/file_state.ts";
import { gitEnvironment } from "./git_environment.ts";
import { type Repository, runGit } from "./repository.ts";

/**
 * Minimum age of a config file when it is read. A younger one may change without a new modification time: in
 * steps of 10 ms at most on Linux, in steps of seconds on some file systems (FAT, HFS+).
 */
const SETTLED_MS = 100, COARSE_SETTLED_MS = 2_000;
/** Maximum number of files. With more of them, a look at all would take as long as git. */
const MAX_FILES = 50;
/** Keys whose effect depends on the work tree, the branch or the remotes. */
const CONDITIONAL = /^(?:includeif\.|extensions\.worktreeconfig$)/;

/** The config of a repository, as it was when it was read. */
export class ConfigSnapshot {
  /** Tells it from others, such as one that was read before a change. */
  readonly id: string = crypto.randomUUID();
  /** What `git config --null --get-regexp '^p2p-iroh\.'` prints. */
  readonly entries: string;
  /** The environment in which it holds (git_environment.ts). */
  readonly environment: string;
  /** State of each file that git reads, also of those that do not exist. */
  #files: ReadonlyMap<string, string>;

  private constructor(entries: string, environment: string, files: ReadonlyMap<string, string>) {
    this.entries = entries;
    this.environment = environment;
    this.#files = files;
  }

  /**
   * Reads the config.
   *
   * @returns Undefined if only git can tell what it is: if it is conditional, has just been written, or depends
   * on an unusual environment.
   * @throws {RepositoryError} if git fails. @throws {GitMissing}
   */
  static async read(repository: Repository): Promise<ConfigSnapshot | undefined> {
    const environment = Deno.build.os === "windows" ? undefined : gitEnvironment();
    if (environment === undefined) return undefined;
    const system = await systemFile();
    const first = await list(repository);
    const paths = first && system !== undefined && filesOf(first, repository, system);
    if (!paths || paths.length > MAX_FILES) return undefined;
    const files = new Map(paths.map((path) => [path, fileState(path)]));
    const second = await list(repository); // what was read after the look at the files
    const snapshot = new ConfigSnapshot(entriesOf(second ?? []), environment, files);
    const isSame = JSON.stringify(first) === JSON.stringify(second);
    return isSame && paths.every(isSettled) && snapshot.holds() ? snapshot : undefined;
  }

  /** Tells whether git would still read the same. */
  holds(): boolean {
    for (const [path, state] of this.#files) if (fileState(path) !== state) return false;
    return true;
  }
}

/** An entry of `git config --list --show-origin`. */
interface Entry {
  /** `file:PATH`, or where else git has it from. */
  readonly origin: string;
  /** In lower case, but for the middle part. */
  readonly key: string;
  /** Undefined for a key without a value. */
  readonly value: string | undefined;
}

/** Lists the config. @returns Undefined if git cannot. */
async function list({ gitDir }: Repository): Promise<Entry[] | undefined> {
  // With the git directory named, git shows absolute paths. Otherwise they are relative to the work tree.
  const run = await runGit(["--git-dir", gitDir, "config", "--null", "--list", "--show-origin"]);
  if (run.code !== 0) return undefined;
  const fields = run.stdout.split("\0"), entries: Entry[] = [];
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const [key, ...value] = fields[i + 1]!.split("\n");
    entries.push({
      origin: fields[i]!,
      key: key!,
      value: value.length > 0 ? value.join("\n") : undefined,
    });
  }
  return entries;
}

/** Asks git for the path of the system config. Before 2.42, only an editor is told. */
async function systemFile(): Promise<string | undefined> {
  const run = await runGit(["config", "--system", "--edit"], { GIT_EDITOR: "printf '%s\\n'" });
  const path = run.stdout.replace(/\n$/, "");
  return run.code === 0 && isAbsolute(path) && !path.includes("\n") ? path : undefined;
}

/** Returns all files that git reads; undefined if that is not certain. */
function filesOf(
  entries: readonly Entry[],
  { gitDir }: Repository,
  system: string,
): string[] | undefined {
  const home = variable("HOME")!, global = variable("GIT_CONFIG_GLOBAL");
  const user = global === undefined
    ? [
      join(home, ".gitconfig"),
      join(variable("XDG_CONFIG_HOME") || join(home, ".config"), "git", "config"),
    ]
    : [resolve(global)];
  const files = new Set([system, ...user, join(gitDir, "config")]);
  for (const { origin, key, value } of entries) {
    const file = /^file:(\/.*)$/s.exec(origin)?.[1];
    if (CONDITIONAL.test(key) || file === undefined) return undefined;
    files.add(file);
    if (key !== "include.path") continue;
    if (value === undefined || /^(?:~[^/]|%)/.test(value)) return undefined;
    const path = value.replace(/^~/, () => home);
    files.add(isAbsolute(path) ? path : join(dirname(file), path)); // it may not exist yet
  }
  const paths = [...files];
  return paths.some((path) => path.includes("\ufffd")) ? undefined : paths; // a name that is not UTF-8
}

/** Returns the entries of this program, in the form of `git config --get-regexp`. */
function entriesOf(entries: readonly Entry[]): string {
  return entries.filter(({ key }) => key.startsWith("p2p-iroh."))
    .map(({ key, value }) => `${key}${value === undefined ? "" : `\n${value}`}\0`).join("");
}

function isSettled(path: string): boolean {
  try {
    const modified = Deno.statSync(path).mtime!.getTime();
    return Date.now() - modified >= (modified % 1000 === 0 ? COARSE_SETTLED_MS : SETTLED_MS);
  } catch {
    return true; // it does not exist
  }
}
