/**
 * Keeps an unpacked copy of iroh-js's native addon in the user's cache folder. Unpacking takes 140 ms and writes
 * 20 MB, too much for each start.
 *
 * The folder must be private to the user, so that no other user can change the copy. The checksum, compared
 * before each use, need therefore only detect damage.
 */

import { dirname, isAbsolute, join } from "node:path";
import { ignoreNotFound, writeAtomically } from "../platform/atomic_file.ts";
import { Failure } from "../console/failure.ts";
import { PROGRAM } from "../console/program.ts";
import type { PackedAddon } from "./packed_addon.ts";
import { makePrivateFolder } from "../platform/private_folder.ts";

/** No cache folder can be trusted, or another process is writing the copy. */
export class CacheFolderError extends Failure {
  override readonly name = "CacheFolderError";
}

/** Timeout for another process to write the copy, which takes it less than 1 s on an idle machine. */
const WRITE_TIMEOUT_MS = 60_000;
const DAY_MS = 24 * 60 * 60_000;
/** Interval between updates of a copy's modification time, which records its use. */
const TOUCH_INTERVAL_MS = DAY_MS;
/**
 * Maximum age of an unused copy. It is removed when another is made. Removed at once, the copies of two
 * installed versions would replace each other.
 */
const MAX_UNUSED_MS = 30 * DAY_MS;
const COPY_NAME = /^iroh-[0-9a-f]{8}\.node$/;

/**
 * Makes sure that there is an intact and private copy of the addon.
 *
 * @param cache The user's cache folder.
 * @returns The path of the copy, in the subfolder `git-annex-p2p-iroh`.
 * @throws {CacheFolderError} if a folder cannot be trusted, or another process is writing the copy.
 * @throws An error of the system if the copy cannot be written.
 */
export async function ensureAddonCopy(
  packed: PackedAddon,
  cache: string | undefined,
): Promise<string> {
  const folder = await ensureFolder(cache), path = join(folder, packed.name);
  if (await isIntact(path, packed)) return path;
  await yieldToWriter(folder);
  await writeAtomically(path, () => packed.unpack(), {
    mode: 0o600,
    ifPresent: "replace",
    isFlushed: false, // isIntact() detects damage, and a flush would slow down simultaneous first starts
  });
  await removeUnused(folder);
  return path;
}

/**
 * Lets one process write the copy, so that simultaneous first starts do not write 20 MB each. Removes what a
 * process that was killed has left.
 *
 * @throws {CacheFolderError} if another process is writing the copy.
 */
async function yieldToWriter(folder: string): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.startsWith(".new-")) continue;
    const path = join(folder, name);
    const mtime = (await Deno.lstat(path).catch(() => undefined))?.mtime; // renamed since
    if (!mtime) continue;
    if (Date.now() - mtime.getTime() < WRITE_TIMEOUT_MS) {
      throw new CacheFolderError("another process is making the copy");
    }
    await Deno.remove(path).catch(ignoreNotFound);
  }
}

/**
 * Makes sure that there is a private folder for the copy.
 *
 * @throws {CacheFolderError} if another user could change its content or replace it.
 */
async function ensureFolder(cache: string | undefined): Promise<string> {
  if (cache === undefined || !isAbsolute(cache)) {
    throw new CacheFolderError("no cache folder is known");
  }
  const folder = join(cache, PROGRAM);
  let problem: string | undefined;
  try {
    problem = await parentProblem(cache);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    // With sudo, HOME may be another user's, in which root must not make a folder.
    problem = await parentProblem(dirname(cache)) ?? await makePrivateFolder(cache);
  }
  if (problem) throw new CacheFolderError(`${cache} ${problem}`);
  problem = await makePrivateFolder(folder);
  if (problem) throw new CacheFolderError(`${folder} ${problem}`);
  return folder;
}

/** Returns why other users could replace a folder inside `path`; undefined if they cannot. Follows a link. */
async function parentProblem(path: string): Promise<string | undefined> {
  const { uid, gid, mode } = await Deno.stat(path);
  if (Deno.uid() === null) return undefined; // Windows: the folder is in the user's profile
  if (uid !== Deno.uid()) return "belongs to another user";
  // Some systems, such as Ubuntu, have a group for each user, and a umask that lets the group write.
  const others = gid === Deno.gid() ? 0o002 : 0o022;
  return mode! & others ? "can be written by others" : undefined;
}

/** Tells whether a copy is a private file and undamaged. Records its use. */
async function isIntact(path: string, packed: PackedAddon): Promise<boolean> {
  try {
    const { isFile, uid, mode, mtime } = await Deno.lstat(path);
    const isPrivate = Deno.uid() === null || uid === Deno.uid() && !(mode! & 0o077);
    if (!isFile || !isPrivate || !packed.isIn(path)) return false;
    const now = new Date();
    if (now.getTime() - mtime!.getTime() > TOUCH_INTERVAL_MS) {
      await Deno.utime(path, now, now).catch(() => {}); // the disk is full or read-only, and the copy can be used all the same
    }
    return true;
  } catch {
    return false; // it is missing or unreadable
  }
}

/** Removes other versions' copies that are no longer used. */
async function removeUnused(folder: string): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (!COPY_NAME.test(name)) continue;
    const path = join(folder, name);
    const mtime = (await Deno.lstat(path).catch(() => undefined))?.mtime;
    if (!mtime || Date.now() - mtime.getTime() < MAX_UNUSED_MS) continue;
    await Deno.remove(path).catch(() => {}); // another process was first, or is using it on Windows
  }
}
