/** A small log file, for a program whose stderr goes to /dev/null. */

import { printable } from "./stderr.ts";

/** When the log has grown to this, it becomes `NAME.old` and a new one is begun. */
const MAX_BYTES = 128 * 1024;

/** A log file of at most two times {@linkcode MAX_BYTES}. */
export class LogFile {
  constructor(readonly path: string) {}

  /** Appends a line with date and process. A log that cannot be written is no reason to stop. */
  write(message: string): void {
    const line = `${new Date().toISOString()} [${Deno.pid}] ${printable(message)}\n`;
    try {
      this.#makeRoom();
      Deno.writeTextFileSync(this.path, line, { append: true, create: true, mode: 0o600 });
    } catch {
      // The disk is full or the folder is gone: serving goes on, and stderr has the line, too.
    }
  }

  #makeRoom(): void {
    try {
      if (Deno.statSync(this.path).size < MAX_BYTES) return;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      throw error;
    }
    Deno.renameSync(this.path, `${this.path}.old`);
  }
}
