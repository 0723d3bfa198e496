/** stdin and stdout as one stream, whose two directions end on their own. */

import { NonblockingPipe } from "./nonblocking_pipe.ts";
import type { Duplex } from "../streams/duplex.ts";
import { cString, type Libc, O_NONBLOCK, O_WRONLY, openLibc } from "./libc.ts";
import { ReadAhead } from "../streams/read_ahead.ts";
import { debug } from "../console/stderr.ts";
import { writeStdout } from "../console/stdout.ts";

const STDIN = 0, STDOUT = 1, STDERR = 2;
/** As Linux has it. */
const F_SETFL = 4;
const READ_BYTES = 128 * 1024;
/** Most bytes that are read before the peer takes them. */
const READ_AHEAD_BYTES = 512 * 1024;
/** For this process to end, which closes stdout, too, and sooner than it could. */
const END_MS = 20;

/**
 * This process's stdin and stdout.
 *
 * Closing `writable` gives whoever reads our stdout its end-of-file at once, while stdin is still
 * read: git-annex waits for the one before it ends the other.
 */
export class Stdio implements Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
  #ahead: ReadAhead;
  #isStdinEnded = false;
  #stdin: NonblockingPipe | undefined;
  #stdout: NonblockingPipe | undefined;

  constructor() {
    makeStdoutBlocking();
    const buffer = new Uint8Array(READ_BYTES);
    this.#ahead = new ReadAhead(async () => {
      const direct = this.#stdin?.read(buffer);
      const length = direct === undefined ? await Deno.stdin.read(buffer) : direct;
      if (length !== null) return buffer.subarray(0, length);
      this.#isStdinEnded = true;
      debug(() => "all of stdin has been read");
      return undefined;
    }, READ_AHEAD_BYTES);
    this.readable = this.#ahead.readable();
    this.writable = new WritableStream({
      write: async (chunk) => {
        const rest = chunk.subarray(this.#stdout?.write(chunk) ?? 0);
        if (rest.length > 0) await writeStdout(rest);
      },
      close: () => this.#close(),
      // Whoever reads it learns that no more comes; the exit status says why.
      abort: () => this.#close(),
    });
  }

  release(chunk: Uint8Array<ArrayBuffer>): void {
    this.#ahead.release(chunk);
  }

  /** At once; where stdin is over, in a moment, since the process has mostly ended by then. */
  #close(): void {
    if (this.#isStdinEnded) setTimeout(closeStdout, END_MS);
    else closeStdout();
  }

  /** For much to go through with few calls. */
  expectMuch(): void {
    this.#stdin = NonblockingPipe.open(STDIN);
    this.#stdout = NonblockingPipe.open(STDOUT);
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
    using libc = openLibc()!;
    libc.fcntl(STDOUT, F_SETFL, flags & ~O_NONBLOCK);
  } catch (error) {
    debug(() => `cannot see whether stdout is blocking: ${error}`); // it nearly always is
  }
}

/**
 * Closes stdout for real. Deno holds a copy of the file descriptor that it never closes, so each one
 * that is the same pipe is made to be /dev/null, with the system's own dup2.
 */
function closeStdout(): void {
  try {
    using libc = openLibc();
    const copies = libc ? copiesOfStdout() : []; // else its reader gets the end with the process's
    if (libc && copies.length > 0) replaceByNull(libc, copies);
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

function replaceByNull({ open, dup2, close }: Libc, fds: readonly number[]): void {
  const nowhere = open(cString("/dev/null"), O_WRONLY);
  if (nowhere < 0) throw new Error("cannot open /dev/null");
  for (const fd of fds) dup2(nowhere, fd);
  close(nowhere);
}
