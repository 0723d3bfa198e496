/** The git repository this program was started in: where it keeps things, and its configuration. */

import { resolve } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { parseSettings, type Settings } from "./settings.ts";
import { debug } from "../console/stderr.ts";

/** A git repository, found from the current directory. */
export interface Repository {
  /**
   * Absolute path of the git directory that all work trees of the repository share; git-annex
   * keeps its things in `annex/` there.
   */
  readonly gitDir: string;
}

/** A call that needs a repository was made where there is none, or git does not say. */
export class RepositoryError extends Failure {
  override readonly name = "RepositoryError";
}

/** There is no git on PATH. */
export class GitMissing extends Failure {
  override readonly name = "GitMissing";

  constructor() {
    super("git is not on PATH", { hint: "install git, or mend PATH" });
  }
}

const CONFIG_NOTHING_FOUND = 1;

/**
 * Finds the repository, as git does: from a subfolder, a bare repository, a linked work tree (which
 * gives the repository it belongs to) or a submodule (which is one of its own).
 *
 * @throws {RepositoryError} if there is none; {GitMissing}.
 */
export async function findRepository(): Promise<Repository> {
  const run = await git("rev-parse", "--git-common-dir");
  if (run.code === 0) return { gitDir: resolve(run.stdout.replace(/\r?\n$/, "")) };
  if (/not a git repository/.test(run.stderr)) {
    throw new RepositoryError("this is not a git repository", {
      hint: "run it in the repository whose address you want",
    });
  }
  throw new RepositoryError(gitReason(run.stderr));
}

/**
 * The settings that hold in the current directory: those of the repository, if there is one, over
 * the user's own, with the environment over both.
 *
 * @throws {SettingError} if one is wrong; {GitMissing}; {RepositoryError} if git cannot read them.
 */
export async function readSettings(): Promise<Settings> {
  const run = await git("config", "--null", "--get-regexp", "^p2p-iroh\\.");
  if (run.code > CONFIG_NOTHING_FOUND) throw new RepositoryError(gitReason(run.stderr));
  return parseSettings(run.stdout, (name) => Deno.env.get(name));
}

/** Where a process runs that needs no repository. */
export interface WorkingContext {
  readonly settings: Settings;
  /** There is none while one is being cloned. */
  readonly repository: Repository | undefined;
}

/** Finds out. @throws As {@linkcode readSettings}. */
export async function readWorkingContext(): Promise<WorkingContext> {
  const finding = findRepository().catch((error) => {
    if (!(error instanceof Failure)) throw error;
    debug(() => `no repository: ${error.message}`);
    return undefined;
  });
  const [settings, repository] = await Promise.all([readSettings(), finding]);
  return { settings, repository };
}

/** The URLs of the git remotes, by name, as they are configured. @throws {RepositoryError}, {GitMissing}. */
export async function remoteUrls(
  { gitDir }: Repository,
): Promise<{ readonly name: string; readonly url: string }[]> {
  const pattern = "^remote\\..*\\.(url|annexurl)$";
  const run = await git("--git-dir", gitDir, "config", "--null", "--get-regexp", pattern);
  if (run.code > CONFIG_NOTHING_FOUND) throw new RepositoryError(gitReason(run.stderr));
  return run.stdout.split("\0").filter((entry) => entry).map((entry) => {
    const [key = "", url = ""] = entry.split("\n");
    return { name: key.split(".").slice(1, -1).join("."), url };
  });
}

interface GitRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function git(...args: string[]): Promise<GitRun> {
  let output: Deno.CommandOutput;
  try {
    const command = new Deno.Command("git", { args, env: { LC_ALL: "C" }, stdin: "null" });
    output = await command.output();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw notFound();
    throw new RepositoryError(`cannot run git, ${systemReason(error)}`, { cause: error });
  }
  const [stdout, stderr] = [output.stdout, output.stderr].map((bytes) =>
    new TextDecoder().decode(bytes)
  );
  return { code: output.code, stdout: stdout!, stderr: stderr! };
}

/** The system says the same of a program that is not there and of a folder that is gone. */
function notFound(): Failure {
  try {
    Deno.cwd();
    return new GitMissing();
  } catch {
    return new RepositoryError("the current directory is gone", {
      hint: "go to one that is there",
    });
  }
}

function gitReason(stderr: string): string {
  return `git says: ${stderr.trim().split("\n", 1)[0]!.replace(/^fatal: /, "")}`;
}
