/**
 * A copy of iroh-js's native addon, unpacked, in the user's cache folder. Unpacking it takes 140 ms and
 * writes 20 MB, too much for each start.
 *
 * The folder is the user's alone, or it is not used: so nobody else can change the copy, and its
 * checksum need only guard against damage, before each use.
 */

import { dirname, isAbsolute, join } from "node:path";
import { ignoreNotFound, writeAtomically } from "../platform/atomic_file.ts";
import { Failure } from "../console/failure.ts";
import type { PackedAddon } from "./packed_addon.ts";
import { makePrivateFolder } from "../platform/private_folder.ts";

/** There is no folder for the copy that can be trusted. */
export class CacheFolderError extends Failure {
  override readonly name = "CacheFolderError";
}

/** No copy takes longer to be made. */
const WRITING_MS = 60_000;
const DAY_MS = 24 * 60 * 60_000;
/** A use is noted this often, in the time of the copy's last change. */
const NOTE_MS = DAY_MS;
/**
 * A copy not used for this long is removed when another is made. Not at once: two installed programs of
 * different versions would replace each other's.
 */
const UNUSED_MS = 30 * DAY_MS;
const COPY_NAME = /^iroh-[0-9a-f]{8}\.node$/;

/** Where the system wants what can be made again; undefined if the environment does not say. */
export function cacheFolder(
  env: Record<string, string> = Deno.env.toObject(),
  os: typeof Deno.build.os = Deno.build.os,
): string | undefined {
  const { HOME, XDG_CACHE_HOME, LOCALAPPDATA } = env;
  if (os === "windows") return LOCALAPPDATA;
  // The specification wants a relative path ignored.
  if (os !== "darwin" && XDG_CACHE_HOME?.startsWith("/")) return XDG_CACHE_HOME;
  return HOME && join(HOME, ...os === "darwin" ? ["Library", "Caches"] : [".cache"]);
}

/**
 * A copy of the addon that is whole and the user's alone; made anew if it is missing or otherwise.
 *
 * @param cache The user's cache folder. The copy lies in one of this program's in it.
 * @returns Its path.
 * @throws {CacheFolderError} if a folder cannot be trusted or another process is at it, or what the
 * system says.
 */
export async function ensureAddonCopy(
  packed: PackedAddon,
  cache: string | undefined,
): Promise<string> {
  const folder = await ensureFolder(cache), path = join(folder, packed.name);
  if (await isIntact(path, packed)) return path;
  await yieldToOthers(folder);
  await writeAtomically(path, () => packed.unpack(), {
    mode: 0o600,
    ifPresent: "replace",
    isFlushed: false, // damage is noticed, and many first starts at once would hold each other up
  });
  await removeUnused(folder);
  return path;
}

/**
 * Of many first starts at once one makes the copy: all would unpack and write 20 MB each.
 *
 * @throws {CacheFolderError} if another process is at it. What one that was killed has left is removed.
 */
async function yieldToOthers(folder: string): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.startsWith(".new-")) continue;
    const path = join(folder, name);
    const mtime = (await Deno.lstat(path).catch(() => undefined))?.mtime; // it has its name by now
    if (!mtime) continue;
    if (Date.now() - mtime.getTime() < WRITING_MS) {
      throw new CacheFolderError("another process is making the copy");
    }
    await Deno.remove(path).catch(ignoreNotFound);
  }
}

/** @throws {CacheFolderError} if somebody else could change what is in it, or put another in its place. */
async function ensureFolder(cache: string | undefined): Promise<string> {
  if (cache === undefined || !isAbsolute(cache)) {
    throw new CacheFolderError("no cache folder is known");
  }
  const folder = join(cache, "git-annex-p2p-iroh");
  let problem: string | undefined;
  try {
    problem = await whatIsWrongAbove(cache);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    // With sudo, HOME may be that of a user to whom a folder of root's would be in the way.
    problem = await whatIsWrongAbove(dirname(cache)) ?? await makePrivateFolder(cache);
  }
  if (problem) throw new CacheFolderError(`${cache} ${problem}`);
  problem = await makePrivateFolder(folder);
  if (problem) throw new CacheFolderError(`${folder} ${problem}`);
  return folder;
}

/** Why somebody else could replace what is in a folder, which may be a link to one. */
async function whatIsWrongAbove(path: string): Promise<string | undefined> {
  const { uid, gid, mode } = await Deno.stat(path);
  if (Deno.uid() === null) return undefined; // Windows: it is in the user's profile
  if (uid !== Deno.uid()) return "belongs to somebody else";
  // A user's own group has no other members where the umask lets it write, as Ubuntu's does.
  const others = gid === Deno.gid() ? 0o002 : 0o022;
  return mode! & others ? "can be written by others" : undefined;
}

/** Whether a copy is a file of the user's alone, and undamaged. That it is used is noted. */
async function isIntact(path: string, packed: PackedAddon): Promise<boolean> {
  try {
    const { isFile, uid, mode, mtime } = await Deno.lstat(path);
    const isPrivate = Deno.uid() === null || uid === Deno.uid() && !(mode! & 0o077);
    if (!isFile || !isPrivate || !packed.isIn(path)) return false;
    const now = new Date();
    if (now.getTime() - mtime!.getTime() > NOTE_MS) {
      await Deno.utime(path, now, now).catch(() => {}); // the disk is full, or can only be read
    }
    return true;
  } catch {
    return false; // it is not there, or cannot be read
  }
}

async function removeUnused(folder: string): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (!COPY_NAME.test(name)) continue;
    const path = join(folder, name);
    const mtime = (await Deno.lstat(path).catch(() => undefined))?.mtime;
    if (!mtime || Date.now() - mtime.getTime() < UNUSED_MS) continue;
    await Deno.remove(path).catch(() => {}); // somebody else was first, or Windows uses it
  }
}
