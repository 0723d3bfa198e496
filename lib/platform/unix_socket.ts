/** Connects to the unix socket on which git-annex listens. */

import { join, relative, resolve } from "node:path";
import { ignoreNotFound } from "./atomic_file.ts";
import { closeQuietly, isClosedError } from "./socket_errors.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { ByteBudget } from "../streams/byte_budget.ts";
import { ReadAhead } from "../streams/read_ahead.ts";
import { ensureRuntimeFolder } from "./runtime_folder.ts";
import { fitsSocketAddress } from "./socket_address.ts";

/**
 * Maximum bytes read from git-annex before the peer takes them. If its socket is not drained as fast as it
 * writes, git-annex may drop the last bytes of a git command.
 */
const MAX_READ_AHEAD_BYTES = 4 << 20;
/** The part of them that each connection may occupy, and what all of them may occupy beyond that. */
const READ_AHEAD_BYTES = 128 * 1024, READ_AHEAD_BUDGET_BYTES = 16 << 20;
/** Maximum bytes in one read. Larger ones are no faster. The first read is small: git-annex may never send more. */
const READ_BYTES = 64 * 1024, FIRST_READ_BYTES = 1024;
/** Interval between probes whether git-annex still reads after its half-close. */
const PROBE_INTERVAL_MS = 100;

const readAheadBudget = new ByteBudget(READ_AHEAD_BUDGET_BYTES);

/**
 * One connection to a unix socket, as a {@linkcode Duplex}. The caller that connects disposes of it.
 *
 * After a half-close, the other side still reads. If it has closed the socket, `writable` fails at once, without
 * waiting for the next write.
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

  /** @param onRead Called with all bytes that are read, before they can be taken from `readable`. */
  private constructor(connection: Deno.UnixConn, onRead: (chunk: Uint8Array) => void) {
    this.#connection = connection;
    let buffer = new Uint8Array(FIRST_READ_BYTES);
    this.#ahead = new ReadAhead(async () => {
      const length = await this.#read(buffer);
      if (length === null) return undefined;
      const bytes = buffer.subarray(0, length);
      onRead(bytes);
      const isFull = length === buffer.length;
      if (isFull && length < READ_BYTES) buffer = new Uint8Array(READ_BYTES);
      return bytes;
    }, { bytes: READ_AHEAD_BYTES, maxBytes: MAX_READ_AHEAD_BYTES, budget: readAheadBudget });
    this.#ahead.begin();
    this.readable = this.#ahead.readable(() => this.#stopReading());
    this.writable = new WritableStream({
      start: (controller) => {
        this.#gone = (error) => controller.error(error);
      },
      write: async (chunk) => {
        for (let rest = chunk; rest.length > 0;) rest = rest.subarray(await this.#write(rest));
      },
      close: async () => {
        this.#writeClosed = true;
        if (this.#readClosed) this.#close();
        else await this.#connection.closeWrite().catch(ignoreGone);
      },
      // Only a closed socket tells git-annex that data is missing.
      abort: () => this.#close(),
    });
  }

  /**
   * Connects to the socket at `path`, which may have any length.
   *
   * @throws An error of the system, such as `NotFound` or `ConnectionRefused`.
   */
  static async connect(
    path: string,
    onRead: (chunk: Uint8Array) => void = () => {},
  ): Promise<UnixSocket> {
    return new UnixSocket(await connectAnyLength(path), onRead);
  }

  /**
   * Discards what git-annex still sends. Only a closed socket tells it that its data is not read, but then the
   * data that is still to be written would be lost. Without a reader, git-annex may block and not read.
   */
  #stopReading(): void {
    this.#readClosed = true;
    if (this.#writeClosed) this.#close();
    else this.#ahead.discard();
  }

  /** Bytes taken from {@linkcode readable} so far. */
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
      // git-annex closes its socket with input unread, which is an orderly end: all it sent has arrived.
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
   * Notices, after the end of git-annex's output, that it has closed the socket: then an empty write fails.
   * Many runtimes half-close a socket a moment before they close it, so that one probe is not enough.
   */
  async #noticeGone(): Promise<void> {
    try {
      while (!this.#writeClosed) {
        await this.#connection.write(new Uint8Array(0));
        await new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, PROBE_INTERVAL_MS)));
      }
    } catch (error) {
      this.#gone(goneError(error));
    }
  }

  #close(): void {
    closeQuietly(this.#connection);
  }

  /** Closes the socket, and frees what was read ahead. */
  [Symbol.dispose](): void {
    this.#close();
    this.#ahead.discard();
  }
}

function goneError(cause: unknown): StreamError {
  return new StreamError("closed", "git-annex closed its socket", { cause });
}

/** Tells whether an error of {@linkcode UnixSocket.connect} means that no process listens there. */
export function nobodyListens(error: unknown): boolean {
  return error instanceof Deno.errors.ConnectionRefused || error instanceof Deno.errors.NotFound;
}

/** Rethrows every error but those that mean that the socket is closed. */
function ignoreGone(error: unknown): void {
  if (!isClosedError(error)) throw error;
}

async function connectAnyLength(path: string): Promise<Deno.UnixConn> {
  const fitting = [path, relativePath(path)].find(fitsSocketAddress);
  if (fitting) return await Deno.connect({ transport: "unix", path: fitting });
  const link = join(await ensureRuntimeFolder(), `socket-${crypto.randomUUID().slice(0, 8)}`);
  await Deno.symlink(resolve(path), link);
  try {
    return await Deno.connect({ transport: "unix", path: link });
  } finally {
    await Deno.remove(link).catch(ignoreNotFound);
  }
}

function relativePath(path: string): string {
  try {
    return relative(Deno.cwd(), path);
  } catch {
    return path; // the current folder is gone, or its name is not UTF-8
  }
}
