/**
 * Files that a process holds locked for as long as it lives (flock(2)), so that others can tell whether it does.
 * A process id alone does not tell: another process may have it by now, and a dead child whose parent does
 * not collect it keeps it.
 */

import { dirname } from "node:path";
import { ignoreNotFound, readPiece } from "./atomic_file.ts";
import { NotRegular } from "./regular_file.ts";
import { debug } from "../console/stderr.ts";

const MODE = 0o600;

/** A file that this process holds, until it is disposed of. */
export class HeldFile implements Disposable {
  #file: Deno.FsFile;

  private constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  /**
   * Writes a file in place of one that another process may hold, and holds it. No reader finds it unheld.
   *
   * @throws An error of the system if it cannot be written.
   */
  static async replace(path: string, text: string): Promise<HeldFile> {
    const temporary = await Deno.makeTempFile({ dir: dirname(path), prefix: ".new-" });
    const file = await Deno.open(temporary, { read: true, write: true });
    try {
      write(file, text);
      lock(file);
      if (Deno.build.os !== "windows") await Deno.chmod(temporary, MODE);
      await Deno.rename(temporary, path);
      return new HeldFile(file);
    } catch (error) {
      file.close();
      await Deno.remove(temporary).catch(ignoreNotFound);
      throw error;
    }
  }

  /**
   * Holds a file and writes it, unless another process holds it. The file is never removed: a process that
   * waits for it could then hold a file that no other process finds.
   *
   * @returns Undefined if another process holds it.
   * @throws An error of the system if it cannot be written.
   */
  static async claim(path: string, text: string): Promise<HeldFile | undefined> {
    refuseSpecialFile(path);
    const file = await Deno.open(path, { read: true, write: true, create: true, mode: MODE });
    try {
      if (lock(file) === false) {
        file.close();
        return undefined;
      }
      write(file, text);
      return new HeldFile(file);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Replaces the text. @throws An error of the system. */
  rewrite(text: string): void {
    write(this.#file, text);
  }

  [Symbol.dispose](): void {
    unlock(this.#file);
    this.#file.close();
  }
}

/** What a reader of a held file learns. */
export interface Reading {
  readonly text: string;
  /** Tells whether a process holds the file. Undefined if the file system cannot tell, as some of networks. */
  readonly isHeld: boolean | undefined;
}

/** Reads at most `maxBytes` of a file that a process may hold. @throws An error of the system. */
export function readHeldFile(path: string, maxBytes: number): Reading {
  refuseSpecialFile(path);
  using file = Deno.openSync(path, { read: true });
  const text = new TextDecoder().decode(readPiece(file, new Uint8Array(maxBytes)));
  try {
    // A shared lock: two readers at once do not take each other for the holder.
    const isHeld = !file.tryLockSync(false);
    if (!isHeld) unlock(file);
    return { text, isHeld };
  } catch (error) {
    debug(() => `cannot lock ${path}: ${error}`);
    return { text, isHeld: undefined };
  }
}

/** To open a FIFO takes until another process opens it. @throws {NotRegular} or what the system says. */
function refuseSpecialFile(path: string): void {
  try {
    if (!Deno.statSync(path).isFile) throw new NotRegular();
  } catch (error) {
    ignoreNotFound(error);
  }
}

/** Locks a file. @returns False if another process has; undefined if the file system has no locks. */
function lock(file: Deno.FsFile): boolean | undefined {
  try {
    return file.tryLockSync(true);
  } catch (error) {
    debug(() => `cannot lock a file: ${error}`);
    return undefined;
  }
}

/** Lets a file go. To close it is not enough: a child that is being started has it for a moment, too. */
function unlock(file: Deno.FsFile): void {
  try {
    file.unlockSync();
  } catch (error) {
    debug(() => `cannot unlock a file: ${error}`); // the file system has no locks
  }
}

/** Writes the whole text with one call, so that a reader at the same time sees the old or the new one. */
function write(file: Deno.FsFile, text: string): void {
  const bytes = new TextEncoder().encode(text);
  file.seekSync(0, Deno.SeekMode.Start);
  file.writeSync(bytes);
  file.truncateSync(bytes.length);
}
