/**
 * Finds the git directory of the current directory without git, if it is certain that git would find the same.
 * git takes several milliseconds, which git-annex waits for with each process.
 *
 * It does what git's setup.c does, with git's own checks: without them, another user's `/tmp/.git` would choose
 * the repository (CVE-2022-24765). Anything unusual is left to git.
 */

import { dirname, isAbsolute } from "node:path";
import { readOwnText } from "../platform/atomic_file.ts";

/** Maximum length of a file `.git`, `commondir` or `HEAD` that counts as usual. */
const MAX_FILE_BYTES = 4096 + "gitdir: \n".length;
/** Matches what `HEAD` holds: a branch, or a commit in SHA-1 or SHA-256. */
const HEAD = /^(?:ref: refs\/[^\0]+|[0-9a-f]{40}|[0-9a-f]{64})\s*$/;

/**
 * Finds the git directory that all work trees of a repository share. The caller has made sure that the
 * environment is usual (git_environment.ts). Never throws.
 *
 * @param start Absolute path without symbolic links, by default of the current directory.
 * @returns Its absolute path; undefined if git must be asked.
 */
export function discoverGitDir(start?: string): string | undefined {
  try {
    return Deno.build.os === "windows" ? undefined : search(start ?? Deno.cwd());
  } catch {
    return undefined; // git says what is wrong
  }
}

/** Walks up to the first folder with a `.git`. @throws What the system says. */
function search(start: string): string | undefined {
  if (!isUsual(start)) return undefined;
  const { dev } = Deno.statSync(start);
  for (let folder = start;; folder = dirname(folder)) {
    const info = Deno.statSync(folder);
    if (info.dev !== dev) return undefined; // git stops at the border of a file system
    const dotGit = join(folder, ".git"), entry = lookAt(dotGit);
    if (entry) return isOurs(info) && isOurs(entry) ? commonDirOf(dotGit, entry) : undefined;
    // A bare repository, or the inside of a git directory. `safe.bareRepository` may forbid it.
    if (lookAt(join(folder, "HEAD")) || folder === "/") return undefined;
  }
}

/** Returns the common git directory for a `.git`. */
function commonDirOf(dotGit: string, entry: Deno.FileInfo): string | undefined {
  if (entry.isDirectory) return commonDir(dotGit);
  if (!entry.isFile) return undefined; // such as a symbolic link
  const path = /^gitdir: ([^\n\r\0]+)[\r\n]*$/.exec(readText(dotGit))?.[1];
  return path === undefined ? undefined : commonDir(follow(dirname(dotGit), path));
}

/**
 * Follows a path in a file of git.
 *
 * @param from The folder that the path is relative to, without symbolic links.
 * @returns The absolute path, without symbolic links. @throws {Error} if the path is not usual.
 */
function follow(from: string, path: string): string {
  // Beyond a symbolic link, `..` is not the folder before it in the path.
  const isPlain = !path.replace(/^(?:\.\.\/)+/, "").split("/").includes("..") ||
    /^[./]+$/.test(path);
  if (!isPlain) throw new Error("not usual");
  return Deno.realPathSync(isAbsolute(path) ? path : join(from, path));
}

/** Follows `commondir`, which linked work trees have. @returns Undefined if it is not a usual git directory. */
function commonDir(gitDir: string): string | undefined {
  if (!isOurFolder(gitDir) || !HEAD.test(readText(join(gitDir, "HEAD")))) return undefined;
  let common = gitDir;
  if (lookAt(join(gitDir, "commondir"))) {
    common = follow(gitDir, readText(join(gitDir, "commondir")).replace(/[\r\n]+$/, ""));
  }
  const isWhole = isUsual(common) && [common, join(common, "objects"), join(common, "refs")]
    .every(isOurFolder);
  return isWhole ? common : undefined;
}

/** Tells whether Deno shows a path as it is: it replaces what is not UTF-8. */
function isUsual(path: string): boolean {
  return isAbsolute(path) && !path.includes("\ufffd");
}

/** Reads a regular file of this user. @throws {Error} if it is anything else. */
function readText(path: string): string {
  const text = readOwnText(path, MAX_FILE_BYTES + 1);
  if (text.length > MAX_FILE_BYTES) throw new Error("not usual");
  return text;
}

function lookAt(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function isOurFolder(path: string): boolean {
  const info = Deno.lstatSync(path);
  return info.isDirectory && isOurs(info);
}

/** Tells whether a file is this user's. git asks `safe.directory` about others. */
function isOurs({ uid }: Deno.FileInfo): boolean {
  return uid === Deno.uid();
}

function join(folder: string, name: string): string {
  return folder === "/" ? `/${name}` : `${folder}/${name}`;
}
