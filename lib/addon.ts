/**
 * Where a compiled program loads iroh-js's native addon from. Deno would unpack it to the temporary
 * directory at each start: 20 MB to be written each time. So a copy is kept in the user's cache folder.
 *
 * The folder is the user's alone, or it is not used. For damage the copy is compared with the addon in
 * the program before each use: piece by piece that takes 5 ms and no memory; a checksum takes three
 * times as long. Whatever is wrong, Deno unpacks the addon as it always does.
 */

import { Buffer } from "node:buffer";
import { createRequire } from "node:module";
import { basename, dirname, isAbsolute, join } from "node:path";
import process from "node:process";
import { ignoreNotFound, writeAtomically } from "./atomic_file.ts";
import { Failure, systemReason } from "./failure.ts";
import { makePrivateFolder } from "./private_folder.ts";
import { debug } from "./stderr.ts";

/** An addon, as npm has it. */
export interface Addon {
  /** Its file, inside the program. */
  readonly path: string;
  /** Of the package it comes with. */
  readonly version: string;
}

/** There is no folder for the copy that can be trusted. */
export class CacheFolderError extends Failure {
  override readonly name = "CacheFolderError";
}

/** By which iroh-js is told where its addon is (napi-rs puts that into each package). */
const VARIABLE = "NAPI_RS_NATIVE_LIBRARY_PATH";
/** What ends the name of the addon's package: what it is linked with. */
const LINKED_WITH: Partial<Record<typeof process.platform, string>> = {
  linux: "-gnu",
  win32: "-msvc",
};
const SUFFIX = ".node";
/** Compared at once: more is no faster. */
/** No copy takes longer to be made. */
const WRITING_MS = 60_000;
const PIECE_BYTES = 256 * 1024;

/** Loads iroh-js; in a compiled program with the copy of its addon, if there can be one. */
export async function withAddonCopy<T>(load: () => Promise<T>): Promise<T> {
  if (!Deno.build.standalone) return await load();
  const path = await loadableCopy();
  try {
    if (path === undefined) Deno.env.delete(VARIABLE); // what the user has set is not for this program
    else Deno.env.set(VARIABLE, path);
    return await load();
  } finally {
    Deno.env.delete(VARIABLE); // not for the programs that this one starts
  }
}

/** The copy, once it has been loaded; undefined if it cannot be had. */
async function loadableCopy(): Promise<string | undefined> {
  try {
    const require = createRequire(import.meta.resolve("@number0/iroh"));
    const path = await ensureAddonCopy(embeddedAddon(require), cacheFolder());
    require(path); // it fails where the home directory is mounted with `noexec`
    return path;
  } catch (error) {
    debug(() => `Deno unpacks the native addon: ${systemReason(error)}`);
    return undefined;
  }
}

function embeddedAddon(require: NodeJS.Require): Addon {
  const platform = `${process.platform}-${process.arch}${LINKED_WITH[process.platform] ?? ""}`;
  const name = `@number0/iroh-${platform}`;
  const { version } = require(`${name}/package.json`) as { version: string };
  return { path: require.resolve(name), version };
}

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
 * A copy of an addon that is whole and the user's alone; made anew if it is missing or otherwise.
 *
 * @param cache The user's cache folder. The copy lies in one of this program's in it.
 * @returns Its path.
 * @throws {CacheFolderError} if a folder cannot be trusted, or what the system says.
 */
export async function ensureAddonCopy(addon: Addon, cache: string | undefined): Promise<string> {
  const folder = await ensureFolder(cache);
  const anyVersion = `${basename(addon.path, SUFFIX)}-`;
  const name = `${anyVersion}${addon.version}${SUFFIX}`, path = join(folder, name);
  if (await isIntact(path, addon.path)) return path;
  await yieldToOthers(folder);
  const content = await Deno.readFile(addon.path);
  // Not flushed: damage is noticed, and many first starts at once would hold each other up.
  await writeAtomically(path, content, { mode: 0o600, ifPresent: "replace", isFlushed: false });
  for await (const { name: other } of Deno.readDir(folder)) {
    if (other === name || !other.startsWith(anyVersion) || !other.endsWith(SUFFIX)) continue;
    await Deno.remove(join(folder, other)).catch(() => {}); // somebody else was first, or Windows uses it
  }
  return path;
}

/**
 * Of many first starts at once one makes the copy: all would read and write 20 MB each.
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

/** Whether a copy is a file of the user's alone, with the bytes of the original. */
async function isIntact(copy: string, original: string): Promise<boolean> {
  try {
    const info = await Deno.lstat(copy);
    const isOwn = Deno.uid() === null || info.uid === Deno.uid() && !(info.mode! & 0o077);
    return info.isFile && isOwn && haveSameBytes(copy, original);
  } catch {
    return false; // it is not there, or cannot be read
  }
}

/** Not asynchronous, which takes twice as long. */
function haveSameBytes(pathA: string, pathB: string): boolean {
  using a = Deno.openSync(pathA), b = Deno.openSync(pathB);
  const bufferA = new Uint8Array(PIECE_BYTES), bufferB = new Uint8Array(PIECE_BYTES);
  for (;;) {
    const pieceA = readPiece(a, bufferA), pieceB = readPiece(b, bufferB);
    if (Buffer.compare(pieceA, pieceB) !== 0) return false;
    if (pieceA.length < PIECE_BYTES) return true;
  }
}

/** Fills a buffer, but for the end of the file. */
function readPiece(file: Deno.FsFile, buffer: Uint8Array): Uint8Array {
  let length = 0;
  while (length < buffer.length) {
    const read = file.readSync(buffer.subarray(length));
    if (read === null) break;
    length += read;
  }
  return buffer.subarray(0, length);
}
