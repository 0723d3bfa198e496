/** A small log file, for a program whose stderr goes to /dev/null. */

import { printable } from "./printable.ts";

/**
 * Maximum size of the log. A log that has reached it becomes `NAME.old`, and a new one begins. It holds
 * about 1000 lines, the sessions of several days.
 */
const MAX_BYTES = 128 * 1024;
/** Maximum lines that wait for the disk: as many as the log holds. Others are lost. */
const MAX_WAITING = 1000;
/** Timeout for the last lines. A disk that stands still must not keep the process from ending. */
const LAST_LINES_TIMEOUT_MS = 1_000;

/**
 * A log file that takes at most twice {@linkcode MAX_BYTES}, with the old one. Sessions do not wait for the disk.
 * Dispose of it at the end.
 */
export class LogFile implements AsyncDisposable {
  #waiting: Uint8Array[] = [];
  #written: Promise<void> = Promise.resolve();

  constructor(readonly path: string) {}

  /** Appends a line with date and process. @returns When it is written, or cannot be written. Never rejects. */
  write(message: string): Promise<void> {
    if (this.#waiting.length >= MAX_WAITING) return this.#written;
    const line = `${new Date().toISOString()} [${Deno.pid}] ${printable(message)}\n`;
    this.#waiting.push(new TextEncoder().encode(line));
    return this.#written = this.#written.then(() => this.#writeWaiting());
  }

  async #writeWaiting(): Promise<void> {
    try {
      while (this.#waiting.length > 0) {
        const bytes = this.#take(await this.#makeRoom());
        await Deno.writeFile(this.path, bytes, { append: true, create: true, mode: 0o600 });
      }
    } catch {
      // The disk is full or the folder is gone. Serving goes on, and stderr has the lines, too.
      this.#waiting = [];
    }
  }

  /** Returns the size of the log, before which it becomes the old one if it is full. */
  async #makeRoom(): Promise<number> {
    try {
      const { size, isFile } = await Deno.stat(this.path);
      if (!isFile) throw new TypeError("not a regular file"); // to open a pipe could take for ever
      if (size < MAX_BYTES) return size;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return 0;
      throw error;
    }
    await Deno.rename(this.path, `${this.path}.old`);
    return 0;
  }

  /** Takes as many lines as the log has room for, at least one. */
  #take(size: number): Uint8Array {
    let count = 0, bytes = 0;
    do bytes += this.#waiting[count++]!.length; while (
      count < this.#waiting.length && size + bytes < MAX_BYTES
    );
    const taken = new Uint8Array(bytes);
    let at = 0;
    for (const line of this.#waiting.splice(0, count)) {
      taken.set(line, at);
      at += line.length;
    }
    return taken;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise: timeout, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, LAST_LINES_TIMEOUT_MS);
    await Promise.race([this.#written, timeout]);
    clearTimeout(timer);
  }
}
