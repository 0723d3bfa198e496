/** A connection to the unix socket on which git-annex listens. */

import { join, relative, resolve } from "node:path";
import { ignoreNotFound } from "./atomic_file.ts";
import { closeQuietly, isClosedError } from "./socket_errors.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { ReadAhead } from "../streams/read_ahead.ts";
import { ensureRuntimeFolder } from "./runtime_folder.ts";

/**
 * Most bytes read from git-annex before the peer has taken them. git-annex may drop the last bytes
 * of a git command when its socket is not drained as fast as it writes, so the more the better; but
 * every connection may fill its buffer.
 */
const READ_AHEAD_BYTES = 4 * 1024 * 1024;
const READ_BYTES = 256 * 1024;
/** How often to look whether a side that sends no more still reads. */
const LOOK_MS = 100;
/** Longest path a socket address holds, in bytes without the final NUL (sockaddr_un). */
const MAX_PATH_BYTES = Deno.build.os === "linux" ? 107 : 103;

/**
 * One connection to a unix socket, as a {@linkcode Duplex}. Whoever connects disposes of it.
 *
 * It tells apart the two ways in which the other side's output can end: by a half-close, after which
 * it still reads, and by having closed everything, after which `writable` fails at once rather than
 * at the next write, which may be long in coming.
 */
export class UnixSocket implements Duplex, Disposable {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
  /** Bytes read from and written to the other side so far. */
  bytesRead = 0;
  bytesWritten = 0;
  #ahead: ReadAhead;
  #connection: Deno.UnixConn;
  #gone: (error: StreamError) => void = () => {};
  #writeClosed = false;
  #readClosed = false;

  /** @param see Is shown everything that is read, before anybody else gets it. */
  private constructor(connection: Deno.UnixConn, see: (chunk: Uint8Array) => void) {
    this.#connection = connection;
    const buffer = new Uint8Array(READ_BYTES);
    this.#ahead = new ReadAhead(async () => {
      const length = await this.#read(buffer);
      if (length === null) return undefined;
      see(buffer.subarray(0, length));
      return buffer.subarray(0, length);
    }, READ_AHEAD_BYTES);
    this.#ahead.begin();
    this.readable = this.#ahead.readable(() => this.#readNoMore());
    this.writable = new WritableStream({
      start: (controller) => {
        this.#gone = (error) => controller.error(error);
      },
      write: async (chunk) => {
        for (let rest = chunk; rest.length > 0;) rest = rest.subarray(await this.#write(rest));
      },
      close: async () => {
        this.#writeClosed = true;
        if (this.#readClosed) this[Symbol.dispose]();
        else await this.#connection.closeWrite().catch(ignoreGone);
      },
      // A socket cannot be told that what it got is not all, except by closing it.
      abort: () => this[Symbol.dispose](),
    });
  }

  /**
   * Connects to the socket at `path`, of any length.
   *
   * @throws What the system says: `NotFound`, `ConnectionRefused`, ….
   */
  static async connect(
    path: string,
    see: (chunk: Uint8Array) => void = () => {},
  ): Promise<UnixSocket> {
    return new UnixSocket(await connectAnyLength(path), see);
  }

  /**
   * A socket cannot be told that nobody reads from it, except by closing it, and what is still to be
   * written must not be lost. Until that is through, what comes is thrown away: the other side may not
   * read before it has written.
   */
  #readNoMore(): void {
    this.#readClosed = true;
    if (this.#writeClosed) this[Symbol.dispose]();
    else this.#ahead.discard();
  }

  /** Bytes that whoever reads {@linkcode readable} has taken so far. */
  get bytesTaken(): number {
    return this.bytesRead - this.#ahead.bytes;
  }

  release(chunk: Uint8Array<ArrayBuffer>): void {
    this.#ahead.release(chunk);
  }

  async #read(buffer: Uint8Array): Promise<number | null> {
    try {
      const length = await this.#connection.read(buffer);
      if (length === null) this.#noticeGone();
      else this.bytesRead += length;
      return length;
    } catch (error) {
      // git-annex closes with input unread, which is an ordinary end: what it sent has come.
      ignoreGone(error);
      this.#gone(goneError(error));
      return null;
    }
  }

  async #write(bytes: Uint8Array): Promise<number> {
    try {
      const length = await this.#connection.write(bytes);
      this.bytesWritten += length;
      return length;
    } catch (error) {
      ignoreGone(error);
      throw goneError(error);
    }
  }

  /**
   * After the end of its output: a write of nothing fails if the other side does not read, either. It may
   * close only a moment later, since many a runtime ends the output first when it closes a socket.
   */
  async #noticeGone(): Promise<void> {
    try {
      while (!this.#writeClosed) {
        await this.#connection.write(new Uint8Array(0));
        await new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, LOOK_MS)));
      }
    } catch (error) {
      this.#gone(goneError(error));
    }
  }

  [Symbol.dispose](): void {
    closeQuietly(this.#connection);
  }
}

function goneError(cause: unknown): StreamError {
  return new StreamError("closed", "git-annex closed its socket", { cause });
}

/** Whether an error of {@linkcode UnixSocket.connect} says that there is nobody behind the path. */
export function nobodyListens(error: unknown): boolean {
  return error instanceof Deno.errors.ConnectionRefused || error instanceof Deno.errors.NotFound;
}

/** Rethrows every error but those by which a socket says that its other end is closed. */
function ignoreGone(error: unknown): void {
  if (!isClosedError(error)) throw error;
}

async function connectAnyLength(path: string): Promise<Deno.UnixConn> {
  const fitting = [path, relative(Deno.cwd(), path)].find(fits);
  if (fitting) return await Deno.connect({ transport: "unix", path: fitting });
  const link = join(await ensureRuntimeFolder(), `socket-${crypto.randomUUID().slice(0, 8)}`);
  await Deno.symlink(resolve(path), link);
  try {
    return await Deno.connect({ transport: "unix", path: link });
  } finally {
    await Deno.remove(link).catch(ignoreNotFound);
  }
}

function fits(path: string): boolean {
  return new TextEncoder().encode(path).length <= MAX_PATH_BYTES;
}
