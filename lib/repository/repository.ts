/** Finds the git repository in which this program was started, and reads its configuration. */

import { resolve } from "node:path";
import { abortable } from "../async/abort.ts";
import { variable } from "../console/environment.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { parseSettings, type Settings, VARIABLE_PREFIX } from "./settings.ts";
import { debug } from "../console/stderr.ts";

/** A git repository, found from the current directory. */
export interface Repository {
  /** Absolute path of the git directory that all its work trees share. git-annex uses its folder `annex`. */
  readonly gitDir: string;
}

/** The current directory is in no repository, or git fails. */
export class RepositoryError extends Failure {
  override readonly name = "RepositoryError";
}

/** There is no git on PATH. */
export class GitMissing extends Failure {
  override readonly name = "GitMissing";

  constructor() {
    super("git is not on PATH", { hint: "install git, or correct PATH" });
  }
}

/** Exit status of `git config` if no key matches. */
export const CONFIG_NOTHING_FOUND = 1;
const FIND_REPOSITORY = ["rev-parse", "--git-common-dir"];
const READ_SETTINGS = ["config", "--null", "--get-regexp", "^p2p-iroh\\."];
/** Timeout for git, also on a slow disk. */
const GIT_TIMEOUT_MS = 30_000;

/**
 * Finds the repository as git does, also from a subfolder, a bare repository or a submodule. All linked work
 * trees of a repository give the same one.
 *
 * @throws {RepositoryError} if there is none. @throws {GitMissing}
 */
export async function findRepository(): Promise<Repository> {
  return repositoryFrom(await gitHere(...FIND_REPOSITORY));
}

function repositoryFrom(run: GitRun): Repository {
  if (run.code === 0) return { gitDir: absolute(run.stdout.replace(/\r?\n$/, "")) };
  if (/not a git repository \(or any/.test(run.stderr)) {
    throw new RepositoryError("this is not a git repository", {
      hint: "run it in the folder of a repository",
    });
  }
  throw new RepositoryError(gitReason(run.stderr));
}

/** Returns the top folder of the work tree of the current directory, or the git directory if it is in none. */
export async function topFolder({ gitDir }: Repository): Promise<string> {
  const run = await gitHere("rev-parse", "--show-toplevel");
  return run.code === 0 ? absolute(run.stdout.replace(/\r?\n$/, "")) : gitDir;
}

/** Makes a path absolute, if the name of the current directory is text. @throws {RepositoryError} */
function absolute(path: string): string {
  if (path.includes("\ufffd")) {
    throw new RepositoryError("a folder above this repository has a name that is not UTF-8", {
      hint: "run it in the top folder of the repository, or rename that folder",
    });
  }
  try {
    return resolve(path);
  } catch {
    return path; // relative to the current directory, which this process does not change
  }
}

/**
 * Reads the settings for the current directory. The environment overrides the repository's git config, if there
 * is a repository, and that overrides the user's git config.
 *
 * @throws {SettingError} if a setting is not valid.
 * @throws {RepositoryError} if git cannot read them. @throws {GitMissing}
 */
export async function readSettings(): Promise<Settings> {
  return settingsFrom(await gitHere(...READ_SETTINGS));
}

/**
 * Reads the settings that a process has which does not get this environment, such as a service.
 *
 * @throws As {@linkcode readSettings}.
 */
export async function readConfiguredSettings(): Promise<Settings> {
  const without = (name: string) => name.startsWith(VARIABLE_PREFIX) ? undefined : variable(name);
  return settingsFrom(await gitHere(...READ_SETTINGS), without);
}

/**
 * Reads the settings without those of a repository.
 *
 * @throws As {@linkcode readSettings}.
 */
async function readUserSettings(): Promise<Settings> {
  return settingsFrom(await git("--git-dir", "/dev/null", ...READ_SETTINGS));
}

function settingsFrom(run: GitRun, environment = variable): Settings {
  if (run.code > CONFIG_NOTHING_FOUND) throw new RepositoryError(gitReason(run.stderr));
  return parseSettings(run.stdout, environment);
}

/** What a process knows that needs no repository. */
export interface WorkingContext {
  readonly settings: Settings;
  /** Undefined outside of a repository, as during `git clone`. */
  readonly repository: Repository | undefined;
}

/**
 * Reads the settings and finds the repository. git-annex connects wherever it is called, also where git does not
 * accept the folder, for example if its config is damaged. Such a repository is ignored.
 *
 * @throws As {@linkcode readSettings}.
 */
export async function readWorkingContext(): Promise<WorkingContext> {
  const finding = git(...FIND_REPOSITORY).then(repositoryFrom).catch((error) => {
    if (!(error instanceof Failure)) throw error;
    debug(() => `no repository: ${error.message}`);
    return undefined;
  });
  const reading = git(...READ_SETTINGS).then(settingsFrom).catch((error) => {
    if (!(error instanceof RepositoryError)) throw error;
    debug(() => `the repository's settings are ignored: ${error.message}`);
    return readUserSettings();
  });
  const [settings, repository] = await Promise.all([reading, finding]);
  return { settings, repository };
}

/** Returns the URLs of the git remotes, as configured. @throws {RepositoryError} @throws {GitMissing} */
export async function remoteUrls(
  repository: Repository,
): Promise<{ readonly name: string; readonly url: string }[]> {
  const entries = await configEntries(repository, "^remote\\..*\\.(url|annexurl)$");
  return entries.map(({ key, value }) => {
    return { name: key.split(".").slice(1, -1).join("."), url: value };
  });
}

/** An entry of git config. */
export interface ConfigEntry {
  /** In lower case, but for the middle part. */
  readonly key: string;
  /** Empty for a key without a value. */
  readonly value: string;
}

/**
 * Returns the entries of git config whose key matches, those that count most last.
 *
 * @throws {RepositoryError} if git fails. @throws {GitMissing}
 */
export async function configEntries(
  { gitDir }: Repository,
  pattern: string,
): Promise<ConfigEntry[]> {
  const run = await git("--git-dir", gitDir, "config", "--null", "--get-regexp", pattern);
  if (run.code > CONFIG_NOTHING_FOUND) throw new RepositoryError(gitReason(run.stderr));
  return run.stdout.split("\0").filter((entry) => entry).map((entry) => {
    const [key = "", ...lines] = entry.split("\n");
    return { key, value: lines.join("\n") };
  });
}

/** The result of {@linkcode git}. */
export interface GitRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs git in the repository of the current directory. A user may permit no bare repository that is not named
 * (`safe.bareRepository`). git-annex, or the user, has chosen this one.
 */
async function gitHere(...args: string[]): Promise<GitRun> {
  return await git("-c", "safe.bareRepository=all", ...args);
}

async function git(...args: string[]): Promise<GitRun> {
  return await runGit(args);
}

/**
 * Runs git.
 *
 * @param variables Further variables of its environment.
 * @throws {RepositoryError} if it does not start, or does not end in time. @throws {GitMissing}
 */
export async function runGit(
  args: string[],
  variables: Record<string, string> = {},
): Promise<GitRun> {
  const env = { ...variables, LC_ALL: "C" };
  const signal = AbortSignal.timeout(GIT_TIMEOUT_MS);
  let output: Deno.CommandOutput;
  try {
    const command = new Deno.Command("git", { args, env, stdin: "null", signal });
    // The signal may kill a git whose child processes keep its stdout open.
    output = await abortable(command.output(), signal);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw notFound();
    if (signal.aborted) {
      throw new RepositoryError(`git has not answered within ${GIT_TIMEOUT_MS / 1000} s`, {
        hint: "does git status work here?",
      });
    }
    const hint = /too many open files/i.test(String(error))
      ? { hint: "raise the limit of open files, for example with ulimit -n 1024" }
      : {};
    throw new RepositoryError(`cannot run git, ${systemReason(error)}`, { ...hint, cause: error });
  }
  const [stdout, stderr] = [output.stdout, output.stderr].map((bytes) =>
    new TextDecoder().decode(bytes)
  );
  return { code: output.code, stdout: stdout!, stderr: stderr! };
}

/** Tells whether git or the current directory is missing: the system has one error for both. */
function notFound(): Failure {
  try {
    Deno.cwd();
    return new GitMissing();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) return new GitMissing(); // its name is not UTF-8
    return new RepositoryError("the current directory no longer exists", {
      hint: "change to one that exists",
    });
  }
}

function gitReason(stderr: string): string {
  return `git says: ${stderr.trim().split("\n", 1)[0]!.replace(/^fatal: /, "")}`;
}
