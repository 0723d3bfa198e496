/**
 * Chooses the PATH of a service. It runs without its user, so it holds only folders in which no other user can
 * put a program.
 */

import { delimiter, dirname, isAbsolute, join } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { PROGRAM } from "../console/program.ts";

/** Programs that `up` and remotedaemon run. */
const NEEDED = ["sh", "git", "git-annex", PROGRAM];
/** Permission bits: writable by the group, by others; only owners may rename and remove (chmod(2)). */
const OTHERS_WRITE = 0o022, STICKY = 0o1000;
const ROOT = 0;

/** A PATH, and what is not in it. */
export interface SearchPath {
  readonly path: string;
  /** Path of this program. */
  readonly program: string;
  /** Folders that are left out, with the reasons, for people. */
  readonly leftOut: readonly string[];
}

/** Returns the part of a PATH that a service may use. @throws {Failure} if a program is not in it. */
export function chooseSearchPath(path: string): SearchPath {
  const kept: string[] = [], leftOut: string[] = [];
  for (const folder of new Set(path.split(delimiter))) {
    const problem = problemOf(folder);
    if (problem === undefined) kept.push(folder);
    else if (problem) leftOut.push(`${folder || "the empty folder"}: ${problem}`);
  }
  const found = new Map(
    NEEDED.map((name) => [name, kept.find((folder) => hasProgram(folder, name))]),
  );
  const missing = NEEDED.filter((name) => !found.get(name));
  if (missing.length > 0) {
    const [but] = leftOut;
    throw new Failure(
      `${missing.join(", ")}: in no folder of PATH that only you and root can write` +
        (but ? `, but ${but}` : ""),
      { hint: "run chmod go-w on its folder, or move it to another one" },
    );
  }
  const program = join(found.get(PROGRAM)!, PROGRAM);
  return { path: kept.join(delimiter), program, leftOut };
}

/**
 * Returns why a service must not use a folder: undefined if it may, and the empty string if the folder does
 * not exist, which needs no mention.
 */
function problemOf(folder: string): string | undefined {
  if (!isAbsolute(folder)) return "not absolute";
  try {
    for (const path of [folder, Deno.realPathSync(folder)]) {
      for (let below = path, isFirst = true;; below = dirname(below), isFirst = false) {
        const problem = writers(below, isFirst);
        if (problem) return below === folder ? problem : `${problem} (${below})`;
        if (dirname(below) === below) break;
      }
    }
    return undefined;
  } catch (error) {
    return error instanceof Deno.errors.NotFound ? "" : systemReason(error);
  }
}

/** Returns which others can put something into a folder. In one above it, they must not be able to rename. */
function writers(path: string, isFirst: boolean): string | undefined {
  const { uid, mode } = Deno.statSync(path);
  if (uid !== ROOT && uid !== Deno.uid()) return "another user owns it";
  if ((mode! & OTHERS_WRITE) === 0) return undefined;
  return !isFirst && mode! & STICKY ? undefined : "others can write to it";
}

function hasProgram(folder: string, name: string): boolean {
  try {
    const { isFile, mode } = Deno.statSync(join(folder, name));
    return isFile && (mode! & 0o111) !== 0;
  } catch {
    return false; // no such file
  }
}
