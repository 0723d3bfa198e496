/**
 * Reading and writing a pipe of this process without waiting, by the system's own calls: Deno hands each
 * read and write of stdin and stdout to another thread and back, which for much data costs more than the
 * rest of what this program does with it. On Linux alone; elsewhere there are Deno's.
 */

import { cString, type Libc, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_WRONLY, openLibc } from "./libc.ts";
import { debug } from "../console/stderr.ts";

/** As Linux has it. */
const F_SETPIPE_SZ = 1031;
/** The most that Linux lets anyone have (pipe(7)); a pipe has 64 KiB by itself. */
const LARGE_PIPE_BYTES = 1 << 20;

/** One end of a pipe. It stays open to the end of the process. */
export class NonblockingPipe {
  #fd: number;
  #libc: Libc;

  private constructor(fd: number, libc: Libc) {
    this.#fd = fd;
    this.#libc = libc;
  }

  /**
   * Opens stdin's or stdout's pipe once more, so that nobody else's use of it changes, and makes it as
   * large as it may be. Undefined if it is no pipe, or cannot be opened: then Deno's calls have to do.
   */
  static open(fd: 0 | 1): NonblockingPipe | undefined {
    if (Deno.build.os !== "linux") return undefined;
    try {
      if (!Deno.statSync(`/dev/fd/${fd}`).isFifo) return undefined;
      const libc = openLibc()!;
      const direction = fd === 0 ? O_RDONLY : O_WRONLY;
      const copy = libc.open(cString(`/proc/self/fd/${fd}`), direction | O_NONBLOCK | O_CLOEXEC);
      if (copy < 0) return undefined;
      libc.fcntl(copy, F_SETPIPE_SZ, LARGE_PIPE_BYTES); // as it was, if it may not be
      return new NonblockingPipe(copy, libc);
    } catch (error) {
      debug(() => `no direct way to the pipe ${fd}: ${error}`); // which only costs time
      return undefined;
    }
  }

  /** How many bytes have been read; null at the end; undefined if there are none now, or it fails. */
  read(buffer: Uint8Array<ArrayBuffer>): number | null | undefined {
    const length = Number(this.#libc.read(this.#fd, buffer, BigInt(buffer.length)));
    return length > 0 ? length : length === 0 ? null : undefined;
  }

  /** How many bytes have been written; none if there is no room now, or it fails. */
  write(bytes: Uint8Array): number {
    return Math.max(0, Number(this.#libc.write(this.#fd, bytes, BigInt(bytes.length))));
  }
}
