/** Makes stdin and stdout one stream, whose directions end independently. */

import { abortable } from "../async/abort.ts";
import { NonblockingPipe } from "./nonblocking_pipe.ts";
import type { Duplex } from "../streams/duplex.ts";
import { cString, type Libc, O_NONBLOCK, O_WRONLY, openLibc } from "./libc.ts";
import { isReaderGone } from "./reader_gone.ts";
import { ReadAhead } from "../streams/read_ahead.ts";
import { debug } from "../console/stderr.ts";
import { writeStdout } from "../console/stdout.ts";

/** File descriptors. */
const STDIN = 0, STDOUT = 1, STDERR = 2;
/** Value of Linux (bits/fcntl-linux.h). */
const F_SETFL = 4;
/** Maximum bytes in one read: more than git-annex writes at once. */
const READ_BYTES = 128 * 1024;
/** Maximum bytes read before the peer takes them: several reads, so that the peer need not wait for one. */
const READ_AHEAD_BYTES = 512 * 1024;
/** Timeout for the last bytes of a {@linkcode StdioWatch}: the reader of stdout may stand still. */
const LAST_BYTES_TIMEOUT_MS = 1_000;
/** Delay of closing stdout after the end of stdin. Mostly the process exits before, which closes it cheaper. */
const CLOSE_DELAY_MS = 20;

/** Watches the bytes of stdin and stdout. */
export interface StdioWatch {
  /** Called with all bytes of stdin, before they can be taken. */
  read(chunk: Uint8Array): void;
  /** Returns what is written to stdout in place of a chunk. */
  write(chunk: Uint8Array): Promise<readonly Uint8Array[]>;
  /** Returns what is written to stdout before it is closed. */
  end(): Promise<Uint8Array>;
}

/**
 * This process's stdin and stdout.
 *
 * Closing `writable` closes stdout at once, while stdin is still read: git-annex waits for the end of stdout
 * before it closes stdin.
 */
export class Stdio implements Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
  #ahead: ReadAhead;
  #isStdinEnded = false;
  #stdin: NonblockingPipe | undefined;
  #stdout: NonblockingPipe | undefined;
  #watch: StdioWatch;

  constructor(watch: StdioWatch) {
    this.#watch = watch;
    makeStdoutBlocking();
    const buffer = new Uint8Array(READ_BYTES);
    this.#ahead = new ReadAhead(async () => {
      try {
        const direct = this.#stdin?.read(buffer);
        const length = direct === undefined ? await Deno.stdin.read(buffer) : direct;
        if (length !== null) {
          const bytes = buffer.subarray(0, length);
          watch.read(bytes);
          return bytes;
        }
      } catch (error) {
        this.#isStdinEnded = true;
        throw error;
      }
      this.#isStdinEnded = true;
      debug(() => "all of stdin has been read");
      return undefined;
    }, READ_AHEAD_BYTES);
    this.readable = this.#ahead.readable();
    this.writable = new WritableStream({
      write: async (chunk) => {
        for (const piece of await watch.write(chunk)) await this.#write(piece);
      },
      close: () => this.#close(),
      // git-annex sees the end of stdout. The exit status tells it from an orderly one.
      abort: () => this.#close(),
    });
  }

  release(chunk: Uint8Array<ArrayBuffer>): void {
    this.#ahead.release(chunk);
  }

  /**
   * Tells whether the other ends of stdin and stdout are open, as far as the system tells. For that, stdin is read
   * from now on. What is read is kept.
   */
  isOpen(): boolean {
    this.#ahead.begin();
    return !this.#isStdinEnded && !isReaderGone(STDOUT);
  }

  async #write(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    const rest = bytes.subarray(this.#stdout?.write(bytes) ?? 0);
    if (rest.length > 0) await writeStdout(rest);
  }

  /** Writes the last bytes, and closes stdout: at once, or after a delay if stdin has ended. */
  async #close(): Promise<void> {
    const last = await this.#watch.end();
    if (last.length > 0) {
      const timeout = AbortSignal.timeout(LAST_BYTES_TIMEOUT_MS);
      await abortable(this.#write(last), timeout).catch(() => {}); // the reader is gone, or stands still
    }
    if (this.#isStdinEnded) setTimeout(closeStdout, CLOSE_DELAY_MS);
    else closeStdout();
  }

  /** Makes large transfers cheaper, at the cost of two more file descriptors. May be called again. */
  expectMuch(): void {
    this.#stdin ??= NonblockingPipe.open(STDIN);
    this.#stdout ??= NonblockingPipe.open(STDOUT);
  }
}

/**
 * Makes stdout blocking, on Linux. A process that shares stdout may have made it non-blocking. Deno then fails
 * when the pipe is full, and does not tell how much it has written. See proc(5) and fcntl(2).
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
    debug(() => `cannot see whether stdout is blocking: ${error}`); // it nearly always is blocking
  }
}

/**
 * Closes stdout's pipe. Deno holds a copy of the file descriptor that it never closes. Each descriptor of the
 * pipe is therefore replaced by /dev/null, with dup2(2).
 */
function closeStdout(): void {
  try {
    using libc = openLibc();
    const copies = libc ? copiesOfStdout() : []; // without libc, it closes when the process exits
    if (libc && copies.length > 0) replaceByNull(libc, copies);
  } catch (error) {
    debug(() => `cannot close stdout before the end of the process: ${error}`);
  }
}

/**
 * Returns the file descriptors of stdout's pipe. If stdin or stderr is the same file, as on a terminal, it
 * returns none, since stdout cannot be closed without the others.
 */
function copiesOfStdout(): number[] {
  const stdout = fileOf(STDOUT);
  if (!stdout || stdout === fileOf(STDIN) || stdout === fileOf(STDERR)) return [];
  return Array.from(Deno.readDirSync("/dev/fd"), ({ name }) => Number(name))
    .filter((fd) => fileOf(fd) === stdout);
}

/** Identifies the file of a descriptor; undefined if it is closed, like that of the folder just read. */
function fileOf(fd: number): string | undefined {
  try {
    const { dev, ino, rdev } = Deno.statSync(`/dev/fd/${fd}`);
    return `${dev} ${ino} ${rdev}`;
  } catch {
    return undefined;
  }
}

function replaceByNull({ open, dup2, close }: Libc, fds: readonly number[]): void {
  const devNull = open(cString("/dev/null"), O_WRONLY);
  if (devNull < 0) throw new Error("cannot open /dev/null");
  for (const fd of fds) dup2(devNull, fd);
  close(devNull);
}
