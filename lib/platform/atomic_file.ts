/** Files that are there whole or not at all. */

import { dirname } from "node:path";

/** Whether writing may replace a file that is already there. */
export type IfPresent = "replace" | "keep";

/**
 * Writes a file under another name, flushes it to the disk, and gives it its name.
 *
 * @param content Or what makes it, once others can see by the other name (`.new-…`) that it is being made.
 * @param mode Permission bits, whatever the umask allows.
 * @param isFlushed False where it does no harm to find the file damaged after a loss of power.
 * @returns False if the file was there and is kept; then nothing has changed.
 * @throws What the system says. Nothing half-written is left behind.
 */
export async function writeAtomically(
  path: string,
  content: Uint8Array | string | (() => Uint8Array),
  { mode, ifPresent, isFlushed = true }: {
    mode: number;
    ifPresent: IfPresent;
    isFlushed?: boolean;
  },
): Promise<boolean> {
  const temporary = await Deno.makeTempFile({ dir: dirname(path), prefix: ".new-" });
  try {
    const bytes = bytesOf(content);
    {
      using file = await Deno.open(temporary, { write: true });
      for (let rest = bytes; rest.length > 0;) rest = rest.subarray(await file.write(rest));
      if (isFlushed) await file.sync();
    }
    if (Deno.build.os !== "windows") await Deno.chmod(temporary, mode);
    if (ifPresent === "keep") return await linkOnce(temporary, path);
    await Deno.rename(temporary, path);
    return true;
  } finally {
    await Deno.remove(temporary).catch(ignoreNotFound); // it has its name by now
  }
}

function bytesOf(content: Uint8Array | string | (() => Uint8Array)): Uint8Array {
  if (typeof content === "function") return content();
  return typeof content === "string" ? new TextEncoder().encode(content) : content;
}

/** Gives a file a further name, unless that is taken. Unlike a rename it never replaces anything. */
async function linkOnce(existing: string, name: string): Promise<boolean> {
  try {
    await Deno.link(existing, name);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return false;
    return await renameOnce(existing, name); // no hard links on this file system, as on FAT
  }
}

/** Next best: between the look and the rename somebody else could write the file. */
async function renameOnce(existing: string, name: string): Promise<boolean> {
  try {
    await Deno.lstat(name);
    return false;
  } catch (error) {
    ignoreNotFound(error);
    await Deno.rename(existing, name);
    return true;
  }
}

/** Rethrows every error but "no such file", for steps whose aim is that there be none. */
export function ignoreNotFound(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}

/** Reads at most `maxBytes` of a file. */
export async function readAtMost(path: string, maxBytes: number): Promise<Uint8Array> {
  using file = await Deno.open(path, { read: true });
  const buffer = new Uint8Array(maxBytes);
  let length = 0;
  while (length < maxBytes) {
    const read = await file.read(buffer.subarray(length));
    if (read === null) break;
    length += read;
  }
  return buffer.subarray(0, length);
}

/** The same at once, as text. */
export function readTextAtMost(path: string, maxBytes: number): string {
  using file = Deno.openSync(path, { read: true });
  return new TextDecoder().decode(readPiece(file, new Uint8Array(maxBytes)));
}

/** Fills a buffer at once, but for the end of the file. @returns What has been read. */
export function readPiece(file: Deno.FsFile, buffer: Uint8Array): Uint8Array {
  let length = 0;
  while (length < buffer.length) {
    const read = file.readSync(buffer.subarray(length));
    if (read === null) break;
    length += read;
  }
  return buffer.subarray(0, length);
}
