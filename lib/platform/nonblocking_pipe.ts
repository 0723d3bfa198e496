/**
 * Reads and writes stdin's and stdout's pipe without waiting, through libc. Linux only; elsewhere Deno's calls
 * are used.
 *
 * Deno passes each read and write of stdin and stdout to another thread and back. For large transfers, that
 * takes longer than everything else that this program does.
 */

import { cString, type Libc, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_WRONLY, openLibc } from "./libc.ts";
import { debug } from "../console/stderr.ts";

/** Value of Linux (bits/fcntl-linux.h). */
const F_SETPIPE_SZ = 1031;
/** Maximum size that Linux permits a user (pipe(7)). By default, a pipe has 64 KiB. */
const LARGE_PIPE_BYTES = 1 << 20;

/** One end of a pipe. It stays open until the process exits. */
export class NonblockingPipe {
  #fd: number;
  #libc: Libc;

  private constructor(fd: number, libc: Libc) {
    this.#fd = fd;
    this.#libc = libc;
  }

  /**
   * Opens stdin's or stdout's pipe a second time, and enlarges it. The first file descriptor stays blocking, for
   * the processes that share it.
   *
   * @returns Undefined if it is not a pipe, or cannot be opened. The caller then uses Deno's calls.
   */
  static open(fd: 0 | 1): NonblockingPipe | undefined {
    if (Deno.build.os !== "linux") return undefined;
    try {
      if (!Deno.statSync(`/dev/fd/${fd}`).isFifo) return undefined;
      const libc = openLibc()!;
      const direction = fd === 0 ? O_RDONLY : O_WRONLY;
      const copy = libc.open(cString(`/proc/self/fd/${fd}`), direction | O_NONBLOCK | O_CLOEXEC);
      if (copy < 0) return undefined;
      libc.fcntl(copy, F_SETPIPE_SZ, LARGE_PIPE_BYTES); // if it fails, the pipe keeps its size
      return new NonblockingPipe(copy, libc);
    } catch (error) {
      debug(() => `cannot open the pipe ${fd} again: ${error}`); // Deno's calls are only slower
      return undefined;
    }
  }

  /** Reads bytes. @returns Their number; null at the end; undefined if there are none yet, or on an error. */
  read(buffer: Uint8Array<ArrayBuffer>): number | null | undefined {
    const length = Number(this.#libc.read(this.#fd, buffer, BigInt(buffer.length)));
    return length > 0 ? length : length === 0 ? null : undefined;
  }

  /** Writes bytes. @returns Their number; 0 if the pipe is full, or on an error. */
  write(bytes: Uint8Array): number {
    return Math.max(0, Number(this.#libc.write(this.#fd, bytes, BigInt(bytes.length))));
  }
}
