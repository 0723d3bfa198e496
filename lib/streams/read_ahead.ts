/** Reading before anybody wants the bytes, into memory that is used again and again. */

/** So much is handed over at a time, at most. */
const BLOCK_BYTES = 256 * 1024;
/** What is not more than this is handed over as a copy: a block would be wasted on it. */
const SMALL_BYTES = 16 * 1024;
/** Blocks that are kept for later. */
const MOST_SPARE = 4;

/**
 * Where the bytes come from: the next ones, at least one, valid until the next call; undefined at the
 * end.
 */
export type Source = () => Promise<Uint8Array | undefined>;

/** What has been read and not yet been taken. */
interface Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  length: number;
}

/**
 * Reads ahead of whoever wants the bytes, so that they come in few large pieces while the ones before
 * are being passed on: each small one by itself would cost more to pass on than to read.
 */
export class ReadAhead {
  #source: Source;
  #mostBytes: number;
  #ahead: Block[] = [];
  #aheadBytes = 0;
  #lent = new Set<ArrayBuffer>();
  #spare: Uint8Array<ArrayBuffer>[] = [];
  #isFilling = false;
  #isWanted = true;
  #ended = false;
  #error: unknown;
  #wake = () => {};

  /** @param mostBytes No more is read while so much waits to be taken. */
  constructor(source: Source, mostBytes: number) {
    this.#source = source;
    this.#mostBytes = mostBytes;
  }

  /** Bytes that wait to be taken. */
  get bytes(): number {
    return this.#aheadBytes;
  }

  /** Begins to read, as the first {@linkcode read} does. */
  begin(): void {
    if (!this.#isFilling) this.#fill();
  }

  /**
   * The next bytes; undefined at the end. Not to be called again before it is done.
   *
   * @throws What the source throws, after all that came before.
   */
  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    this.begin();
    while (this.#ahead.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const block = this.#ahead.shift();
    if (block) return this.#handOver(block);
    if (this.#error !== undefined) throw this.#error;
    return undefined;
  }

  /** The same as a stream. @param cancel Called when nobody wants the rest. */
  readable(cancel: () => void = () => {}): ReadableStream<Uint8Array<ArrayBuffer>> {
    return new ReadableStream({
      pull: async (controller) => {
        const piece = await this.read();
        if (piece) controller.enqueue(piece);
        else controller.close();
      },
      cancel,
    }, { highWaterMark: 0 });
  }

  /** Whoever got a piece, or a part of it, is done with the whole piece: its memory is used again. */
  release(piece: Uint8Array<ArrayBuffer>): void {
    if (this.#lent.delete(piece.buffer)) this.#keep(new Uint8Array(piece.buffer));
  }

  /** Reads on to the end, and throws away what comes. */
  discard(): void {
    this.#isWanted = false;
    for (const { bytes } of this.#ahead.splice(0)) free(bytes);
    this.#aheadBytes = 0;
    this.begin();
  }

  async #fill(): Promise<void> {
    this.#isFilling = true;
    while (!this.#ended && this.#aheadBytes < this.#mostBytes) {
      try {
        const bytes = await this.#source();
        if (bytes) this.#add(bytes);
        else this.#ended = true;
      } catch (error) {
        this.#ended = true;
        this.#error = error; // told to whoever reads
      }
      this.#wake();
    }
    this.#isFilling = false;
    if (this.#ended) this.#spare.splice(0).forEach(free);
  }

  #add(bytes: Uint8Array): void {
    if (!this.#isWanted) return;
    this.#aheadBytes += bytes.length;
    for (let rest = bytes; rest.length > 0;) {
      const block = this.#blockWithRoom();
      const part = rest.subarray(0, BLOCK_BYTES - block.length);
      block.bytes.set(part, block.length);
      block.length += part.length;
      rest = rest.subarray(part.length);
    }
  }

  #blockWithRoom(): Block {
    const last = this.#ahead.at(-1);
    if (last && last.length < BLOCK_BYTES) return last;
    const block = { bytes: this.#spare.pop() ?? new Uint8Array(BLOCK_BYTES), length: 0 };
    this.#ahead.push(block);
    return block;
  }

  #handOver({ bytes, length }: Block): Uint8Array<ArrayBuffer> {
    this.#aheadBytes -= length;
    this.begin(); // there is room again
    if (length > SMALL_BYTES) {
      this.#lent.add(bytes.buffer);
      return bytes.subarray(0, length);
    }
    const copy = bytes.slice(0, length);
    this.#keep(bytes);
    return copy;
  }

  #keep(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#spare.length < MOST_SPARE && !this.#ended) this.#spare.push(bytes);
    else free(bytes);
  }
}

/** Gives memory back at once: the collector of garbage lets much more pile up than it seems to see. */
function free(bytes: Uint8Array<ArrayBuffer>): void {
  bytes.buffer.transfer(0);
}
