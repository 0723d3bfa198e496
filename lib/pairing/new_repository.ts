/**
 * The repository that `join` makes in a folder that is new or empty. A file in it says so until the join is done, with
 * the first fetch. So a later join goes on with it, or removes it.
 */

import { dirname, join } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { ignoreNotFound } from "../platform/atomic_file.ts";
import { readTextAtMost } from "../platform/regular_file.ts";
import { outputIn, runIn } from "../repository/git_annex.ts";

const MARK = join("annex", "p2p-iroh", "new-repository");
const MAX_MARK_BYTES = 256;
/** What the file holds if the folder was there, and then stays. */
const FOLDER_WAS_THERE = "in a folder that was there\n";

/** The branch that `git annex init` makes. */
const ANNEX_BRANCH = "refs/heads/git-annex";
/** The files on it then. */
const INIT_FILES: ReadonlySet<string> = new Set(["uuid.log", "difference.log"]);

/** The folder cannot be made a repository. */
export class NoNewRepository extends Failure {
  override readonly name = "NoNewRepository";
}

/** What is at a path. */
export type FolderState =
  /** Nothing, or an empty folder. */
  | "free"
  /** A repository that an unfinished join has made, and in which there is no commit yet. */
  | "begun"
  /** A folder with something in it, such as a repository. */
  | "used";

/** Returns what is at a path. @throws {NoNewRepository} if it cannot be read, or is no folder. */
export async function folderState(folder: string, signal: AbortSignal): Promise<FolderState> {
  try {
    const entries = await Array.fromAsync(Deno.readDir(folder));
    if (entries.length === 0) return "free";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "free";
    throw new NoNewRepository(`cannot use ${folder}, ${systemReason(error)}`, {
      hint: "name another folder",
    });
  }
  // If there is a commit, the user has worked in it, or git annex sync has done what the join had left.
  return markOf(folder) === undefined || await hasCommit(folder, signal) ? "used" : "begun";
}

/**
 * Makes a repository with git-annex in a free folder, or goes on with one that was begun. Special remotes that the
 * inviter's branch of git-annex names are not enabled: that would start programs.
 *
 * @throws {NoNewRepository} @throws {CommandFailed} @throws The signal's reason.
 */
export async function makeRepository(folder: string, signal: AbortSignal): Promise<void> {
  const gitDir = join(folder, ".git"), mark = join(gitDir, MARK);
  try {
    const wasThere = markOf(folder) === FOLDER_WAS_THERE || await exists(folder);
    await Deno.mkdir(dirname(dirname(mark)), { recursive: true });
    await Deno.mkdir(dirname(mark), { recursive: true, mode: 0o700 });
    if (markOf(folder) === undefined) {
      await Deno.writeTextFile(mark, wasThere ? FOLDER_WAS_THERE : "\n", { mode: 0o600 });
    }
  } catch (error) {
    throw new NoNewRepository(`cannot make ${folder}, ${systemReason(error)}`, {
      hint: "name another folder",
    });
  }
  await outputIn(folder, ["init", "--quiet"], signal);
  await outputIn(folder, ["annex", "init", "--no-autoenable", "--quiet"], signal);
}

/** Keeps the repository: the join is done, and all is fetched. */
export async function keepRepository(folder: string): Promise<void> {
  await Deno.remove(join(folder, ".git", MARK)).catch(ignoreNotFound);
}

/** What has become of a repository. */
export type RemovalEnd =
  | "removed"
  /** It is in use: see {@linkcode isInUse}. Its remote is not that of a join which is given up. */
  | "kept"
  /** No join has begun it. */
  | "not-begun";

/**
 * Removes a repository that was begun, and the folder if it was new. Files that others have put there stay. Nothing
 * may run in it.
 */
export async function removeRepository(folder: string, signal: AbortSignal): Promise<RemovalEnd> {
  const mark = markOf(folder), gitDir = join(folder, ".git");
  if (mark === undefined) return "not-begun";
  if (await isInUse(folder, signal)) return "kept";
  await Deno.remove(gitDir, { recursive: true });
  if (mark !== FOLDER_WAS_THERE) {
    await Deno.remove(folder).catch((error) => debug(() => `the folder stays: ${error}`));
  }
  return "removed";
}

/**
 * Tells whether a repository has any of these. Before a join has linked both repositories, it makes none of them:
 * - a remote
 * - a commit on any branch or tag, or staged files
 * - contents of files
 * - what a command such as `git annex numcopies` notes on git-annex's branch
 *
 * @throws {CommandFailed}
 */
export async function isInUse(folder: string, signal: AbortSignal): Promise<boolean> {
  if (await exists(join(folder, ".git", "annex", "objects"))) return true;
  if (!await isMade(folder)) return false;
  const output = (...args: string[]) => outputIn(folder, args, signal);
  if (await output("remote") !== "") return true;
  if (await output("rev-list", "--max-count=1", `--exclude=${ANNEX_BRANCH}`, "--all") !== "") {
    return true;
  }
  const files = await runIn(folder, ["ls-tree", "--name-only", ANNEX_BRANCH], signal); // none if there is no branch
  if (files.stdout.split("\n").some((name) => name && !INIT_FILES.has(name))) return true;
  return (await runIn(folder, ["diff", "--cached", "--quiet"], signal)).code !== 0;
}

async function hasCommit(folder: string, signal: AbortSignal): Promise<boolean> {
  if (!await isMade(folder)) return false;
  return (await runIn(folder, ["rev-parse", "--quiet", "--verify", "HEAD"], signal)).code === 0;
}

/** Tells whether there is a repository. If not, `git init` has failed, perhaps for want of git. */
async function isMade(folder: string): Promise<boolean> {
  return await exists(join(folder, ".git", "HEAD"));
}

/** Returns the text of the file; undefined if there is none. */
function markOf(folder: string): string | undefined {
  try {
    return readTextAtMost(join(folder, ".git", MARK), MAX_MARK_BYTES);
  } catch {
    return undefined; // also where .git is a file, or not readable
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, (error) => {
    ignoreNotFound(error);
    return false;
  });
}
