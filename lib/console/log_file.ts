/** A small log file, for a program whose stderr goes to /dev/null. */

import { printable } from "./printable.ts";

/**
 * Maximum size of the log. A log that has reached it becomes `NAME.old`, and a new one begins. It holds
 * about 1000 lines, the sessions of several days.
 */
const MAX_BYTES = 128 * 1024;

/** A log file that takes at most twice {@linkcode MAX_BYTES}, with the old one. */
export class LogFile {
  constructor(readonly path: string) {}

  /** Appends a line with date and process. Never throws. */
  write(message: string): void {
    const line = `${new Date().toISOString()} [${Deno.pid}] ${printable(message)}\n`;
    try {
      this.#makeRoom();
      Deno.writeTextFileSync(this.path, line, { append: true, create: true, mode: 0o600 });
    } catch {
      // The disk is full or the folder is gone. Serving goes on, and stderr has the line, too.
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
