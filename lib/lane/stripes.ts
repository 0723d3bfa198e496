/**
 * Bytes dealt out over several QUIC streams in one connection, a piece to each in turn. What is on the
 * way on one stream is bounded by what its receiver has room for, 1.25 MB in Deno: at a round trip of
 * 50 ms that is 25 MB/s, and each stream adds as much.
 */

/**
 * How many streams there are in each direction. With more, more comes at once than the 208 KiB hold that
 * Linux gives Deno's UDP socket, and what is lost there slows it down again.
 */
export const STREAMS = 3;
/** What goes on one stream before it is the next one's turn. */
const PIECE_BYTES = 256 * 1024;
/** Deno seldom has more at a time. */
const READ_BYTES = 128 * 1024;

/** Where in its turn the byte at an offset is: on which stream, and with how many more to follow it there. */
function turnAt(offset: number): { index: number; left: number } {
  return {
    index: Math.floor(offset / PIECE_BYTES) % STREAMS,
    left: PIECE_BYTES - offset % PIECE_BYTES,
  };
}

/** Sends. */
export class StripedWriter {
  #open: () => Promise<WritableStream<Uint8Array<ArrayBufferLike>>>;
  #writers: WritableStreamDefaultWriter<Uint8Array<ArrayBufferLike>>[] = [];
  #offset = 0;

  /** @param open Opens the next stream. */
  constructor(open: () => Promise<WritableStream<Uint8Array<ArrayBufferLike>>>) {
    this.#open = open;
  }

  /** Hands over all bytes, which may be changed after that. Not to be called while it is under way. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let rest = bytes; rest.length > 0;) {
      const { index, left } = turnAt(this.#offset);
      const part = rest.subarray(0, left);
      await (this.#writers[index] ?? await this.#next()).write(part);
      this.#offset += part.length;
      rest = rest.subarray(part.length);
    }
  }

  async #next(): Promise<WritableStreamDefaultWriter<Uint8Array<ArrayBufferLike>>> {
    const writer = (await this.#open()).getWriter();
    writer.closed.catch(() => {}); // writes fail with the same
    this.#writers.push(writer);
    return writer;
  }
}

/** Receives. */
export class StripedReader {
  #accept: () => Promise<ReadableStream<Uint8Array<ArrayBuffer>> | undefined>;
  #readers: ReadableStreamBYOBReader[] = [];
  #offset = 0;
  /** Lent to each read, which gives it back. */
  #memory = new ArrayBuffer(READ_BYTES);

  /** @param accept The next stream, in the order in which they were opened; undefined if none comes. */
  constructor(accept: () => Promise<ReadableStream<Uint8Array<ArrayBuffer>> | undefined>) {
    this.#accept = accept;
  }

  /** The next bytes, at least one, valid until the next call; undefined at the end. */
  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const { index, left } = turnAt(this.#offset);
    const reader = this.#readers[index] ?? await this.#next();
    if (!reader) return undefined;
    for (;;) {
      const room = new Uint8Array(this.#memory, 0, Math.min(READ_BYTES, left));
      const { value, done } = await reader.read(room);
      if (done) return undefined;
      this.#memory = value.buffer;
      this.#offset += value.length;
      if (value.length > 0) return value;
    }
  }

  async #next(): Promise<ReadableStreamBYOBReader | undefined> {
    const reader = (await this.#accept())?.getReader({ mode: "byob" });
    if (reader) this.#readers.push(reader);
    return reader;
  }
}
