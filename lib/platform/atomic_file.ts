/** Writes files atomically: they are complete or do not exist. Reads small files of this user. */

import { dirname } from "node:path";

/** What to do with a file that already exists. */
export type IfPresent = "replace" | "keep";

/**
 * Writes a file under a temporary name, flushes it to the disk, and renames it.
 *
 * @param content The content, or a function that makes it. The function is called when the temporary file
 * (`.new-…`) exists, by which other processes can tell that the file is being written.
 * @param mode Permission bits. The umask does not change them.
 * @param isFlushed False if the file may be damaged after a loss of power.
 * @returns False if the file existed and is kept.
 * @throws An error of the system. The temporary file is removed then, too.
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
    await Deno.remove(temporary).catch(ignoreNotFound); // a renamed file has no temporary name
  }
}

function bytesOf(content: Uint8Array | string | (() => Uint8Array)): Uint8Array {
  if (typeof content === "function") return content();
  return typeof content === "string" ? new TextEncoder().encode(content) : content;
}

/** Gives a file a second name. Unlike a rename, it never replaces a file. @returns False if the name is taken. */
async function linkOnce(existing: string, name: string): Promise<boolean> {
  try {
    await Deno.link(existing, name);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return false;
    return await renameOnce(existing, name); // this file system has no hard links, like FAT
  }
}

/** Renames a file unless the name is taken. Not atomic: another process can take it after the look. */
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

/** Rethrows every error but "no such file", for callers that only want the file not to exist. */
export function ignoreNotFound(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}

/**
 * Reads at most `maxBytes` of a text file of this user, in a folder where no other user can replace it.
 * Connecting processes use it, since regular_file.ts takes long to load.
 *
 * @throws {Error} if it belongs to another user, or is no regular file. @throws An error of the system.
 */
export function readOwnText(path: string, maxBytes: number): string {
  const { uid, isFile } = Deno.lstatSync(path);
  if (!isFile || uid !== Deno.uid()) throw new Error("it is not a regular file of this user");
  using file = Deno.openSync(path);
  const bytes = readPiece(file, new Uint8Array(maxBytes));
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes); // git knows no BOM in its files
}

/** Reads synchronously until the buffer is full or the file ends. @returns The part of the buffer with data. */
export function readPiece(file: Deno.FsFile, buffer: Uint8Array): Uint8Array {
  let length = 0;
  while (length < buffer.length) {
    const read = file.readSync(buffer.subarray(length));
    if (read === null) break;
    length += read;
  }
  return buffer.subarray(0, length);
}
