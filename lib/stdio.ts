/** stdin and stdout as one stream, whose two directions end on their own. */

import type { Duplex } from "./duplex.ts";
import { debug } from "./stderr.ts";

/** What libc is called, where Deno's releases run. On Windows nothing needs it. */
const LIBC: Partial<Record<typeof Deno.build.os, string>> = {
  linux: "libc.so.6",
  darwin: "libSystem.dylib",
};
const STDIN = 0, STDOUT = 1, STDERR = 2;
const O_WRONLY = 1;

/**
 * This process's stdin and stdout.
 *
 * Closing `writable` gives whoever reads our stdout its end-of-file at once, while stdin is still
 * read: git-annex waits for the one before it ends the other.
 */
export function stdio(): Duplex {
  return {
    readable: Deno.stdin.readable,
    writable: new WritableStream({
      write: async (chunk) => {
        for (let rest = chunk; rest.length > 0;) {
          rest = rest.subarray(await Deno.stdout.write(rest));
        }
      },
      close: closeStdout,
    }),
  };
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
  });
  return { symbols: library.symbols, [Symbol.dispose]: () => library.close() };
}
