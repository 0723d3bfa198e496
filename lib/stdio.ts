/** stdin and stdout as one stream, whose two directions end on their own. */

import type { Duplex } from "./duplex.ts";
import { debug } from "./stderr.ts";
import { writeStdout } from "./stdout.ts";

/** What libc is called, where Deno's releases run. On Windows nothing needs it. */
const LIBC: Partial<Record<typeof Deno.build.os, string>> = {
  linux: "libc.so.6",
  darwin: "libSystem.dylib",
};
const STDIN = 0, STDOUT = 1, STDERR = 2;
const O_WRONLY = 1;
/** As Linux has them. */
const O_NONBLOCK = 0o4000, F_SETFL = 4, F_SETPIPE_SZ = 1031;
/** The most that Linux lets anyone have (pipe(7)); a pipe has 64 KiB by itself. */
const LARGE_PIPE_BYTES = 1 << 20;
const READ_BYTES = 256 * 1024;

/**
 * This process's stdin and stdout.
 *
 * Closing `writable` gives whoever reads our stdout its end-of-file at once, while stdin is still
 * read: git-annex waits for the one before it ends the other.
 */
export function stdio(): Duplex {
  makeStdoutBlocking();
  return {
    readable: stdin(),
    writable: new WritableStream({
      write: writeStdout,
      close: closeStdout,
      // Whoever reads it learns at once that no more comes; the exit status says why.
      abort: closeStdout,
    }),
  };
}

/** Like `Deno.stdin.readable`, in pieces as large as the pipe lets them be. */
function stdin(): ReadableStream<Uint8Array<ArrayBuffer>> {
  const buffer = new Uint8Array(READ_BYTES);
  return new ReadableStream({
    async pull(controller) {
      const length = await Deno.stdin.read(buffer);
      if (length === null) controller.close();
      else controller.enqueue(buffer.slice(0, length));
    },
  }, { highWaterMark: 0 });
}

/** Makes the pipes of stdin and stdout large, for much to go through them with few calls. */
export function enlargePipes(): void {
  if (Deno.build.os !== "linux") return;
  try {
    using library = dlopen(LIBC.linux!);
    for (const fd of [STDIN, STDOUT]) library.symbols.fcntl(fd, F_SETPIPE_SZ, LARGE_PIPE_BYTES);
  } catch (error) {
    debug(() => `the pipes stay as they are: ${error}`); // which only costs time
  }
}

/**
 * A process that shares our stdout may have made it non-blocking. Deno then fails when the pipe is full,
 * and does not say how much it has written (Linux, proc(5) and fcntl(2)).
 */
function makeStdoutBlocking(): void {
  if (Deno.build.os !== "linux") return;
  try {
    const info = Deno.readTextFileSync(`/proc/self/fdinfo/${STDOUT}`);
    const flags = parseInt(/^flags:\s*([0-7]+)$/m.exec(info)![1]!, 8);
    if ((flags & O_NONBLOCK) === 0) return;
    using library = dlopen(LIBC.linux!);
    library.symbols.fcntl(STDOUT, F_SETFL, flags & ~O_NONBLOCK);
  } catch (error) {
    debug(() => `cannot see whether stdout is blocking: ${error}`); // it nearly always is
  }
}

/**
 * Closes stdout for real. Deno holds a copy of the file descriptor that it never closes, so each one
 * that is the same pipe is made to be /dev/null, with the system's own dup2.
 */
function closeStdout(): void {
  const libc = LIBC[Deno.build.os];
  if (!libc) return; // its reader gets the end-of-file when the process ends
  try {
    const copies = copiesOfStdout();
    if (copies.length > 0) replaceByNull(libc, copies);
  } catch (error) {
    debug(() => `cannot close stdout before the end of the process: ${error}`);
  }
}

/**
 * The file descriptors that are stdout's pipe. None when stdin or stderr is the same file, as on a
 * terminal: then there is no closing the one without the other.
 */
function copiesOfStdout(): number[] {
  const stdout = fileOf(STDOUT);
  if (!stdout || stdout === fileOf(STDIN) || stdout === fileOf(STDERR)) return [];
  return Array.from(Deno.readDirSync("/dev/fd"), ({ name }) => Number(name))
    .filter((fd) => fileOf(fd) === stdout);
}

/** What a file descriptor refers to; undefined if it is closed, as that of the folder just read is. */
function fileOf(fd: number): string | undefined {
  try {
    const { dev, ino, rdev } = Deno.statSync(`/dev/fd/${fd}`);
    return `${dev} ${ino} ${rdev}`;
  } catch {
    return undefined;
  }
}

function replaceByNull(libc: string, fds: readonly number[]): void {
  using library = dlopen(libc);
  const { open, dup2, close } = library.symbols;
  const nowhere = open(new TextEncoder().encode("/dev/null\0"), O_WRONLY);
  if (nowhere < 0) throw new Error("cannot open /dev/null");
  for (const fd of fds) dup2(nowhere, fd);
  close(nowhere);
}

function dlopen(libc: string) {
  const library = Deno.dlopen(libc, {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    dup2: { parameters: ["i32", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    // It takes any number of arguments, which are passed like others on Linux, where it is called.
    fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  });
  return { symbols: library.symbols, [Symbol.dispose]: () => library.close() };
}
