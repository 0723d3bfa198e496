/**
 * Reading and writing a pipe of this process without waiting, by the system's own calls: Deno hands each
 * read and write of stdin and stdout to another thread and back, which for much data costs more than the
 * rest of what this program does with it. On Linux alone; elsewhere there are Deno's.
 */

import { debug } from "./stderr.ts";

const O_RDONLY = 0, O_WRONLY = 1;
/** As Linux has them. */
const O_NONBLOCK = 0o4000, F_SETPIPE_SZ = 1031;
/** The most that Linux lets anyone have (pipe(7)); a pipe has 64 KiB by itself. */
const LARGE_PIPE_BYTES = 1 << 20;

/** One end of a pipe. It stays open to the end of the process. */
export class DirectPipe {
  #fd: number;
  #system: ReturnType<typeof dlopen>;

  private constructor(fd: number, system: ReturnType<typeof dlopen>) {
    this.#fd = fd;
    this.#system = system;
  }

  /**
   * Opens stdin's or stdout's pipe once more, so that nobody else's use of it changes, and makes it as
   * large as it may be. Undefined if it is no pipe, or cannot be opened: then Deno's calls have to do.
   */
  static open(fd: 0 | 1): DirectPipe | undefined {
    if (Deno.build.os !== "linux") return undefined;
    try {
      if (!Deno.statSync(`/dev/fd/${fd}`).isFifo) return undefined;
      const system = dlopen();
      const path = new TextEncoder().encode(`/proc/self/fd/${fd}\0`);
      const own = system.open(path, (fd === 0 ? O_RDONLY : O_WRONLY) | O_NONBLOCK);
      if (own < 0) return undefined;
      system.fcntl(own, F_SETPIPE_SZ, LARGE_PIPE_BYTES); // as it was, if it may not be
      return new DirectPipe(own, system);
    } catch (error) {
      debug(() => `no direct way to the pipe ${fd}: ${error}`); // which only costs time
      return undefined;
    }
  }

  /** How many bytes have been read; null at the end; undefined if there are none now, or it fails. */
  read(buffer: Uint8Array<ArrayBuffer>): number | null | undefined {
    const length = Number(this.#system.read(this.#fd, buffer, BigInt(buffer.length)));
    return length > 0 ? length : length === 0 ? null : undefined;
  }

  /** How many bytes have been written; none if there is no room now, or it fails. */
  write(bytes: Uint8Array): number {
    return Math.max(0, Number(this.#system.write(this.#fd, bytes, BigInt(bytes.length))));
  }
}

function dlopen() {
  return Deno.dlopen("libc.so.6", {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    // It takes any number of arguments, which are passed like others on Linux.
    fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  }).symbols;
}
