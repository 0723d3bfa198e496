/** Reads from a source before its data is wanted, into memory that is used again. */

import { ByteBudget } from "./byte_budget.ts";

/** Maximum length of a piece: larger ones are not passed on faster. */
const BLOCK_BYTES = 128 * 1024;
/** Maximum length of a piece that is copied, so that a small piece does not occupy a block. */
const MAX_COPIED_BYTES = 16 * 1024;
/** Maximum blocks that are kept for later use while bytes wait: 1 MiB. */
const MAX_SPARE_BLOCKS = 8;

/** Returns the next bytes, at least one, which are valid until the next call; undefined at the end. */
export type Source = () => Promise<Uint8Array | undefined>;

/** How many bytes may wait to be taken. */
export interface ReadAheadLimits {
  /** Maximum without a budget. */
  readonly bytes: number;
  /** Maximum while the budget has memory for what is beyond {@linkcode bytes}. */
  readonly maxBytes: number;
  readonly budget: ByteBudget;
}

/** Bytes that have been read and not yet taken. */
interface Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  length: number;
}

/**
 * Reads from a source while earlier data is being passed on, and joins small reads into large pieces. Passing on
 * each small read by itself would cost more than reading it.
 */
export class ReadAhead {
  #source: Source;
  #limits: ReadAheadLimits;
  /** Bytes taken from the budget. */
  #borrowed = 0;
  #ahead: Block[] = [];
  #aheadBytes = 0;
  #lent = new Set<ArrayBuffer>();
  #spare: Uint8Array<ArrayBuffer>[] = [];
  #isFilling = false;
  #isWanted = true;
  #ended = false;
  #error: unknown;
  #wake = () => {};

  /** @param limits Bytes that may wait to be taken. While more wait, the source is not read. */
  constructor(source: Source, limits: number | ReadAheadLimits) {
    this.#source = source;
    this.#limits = typeof limits === "number"
      ? { bytes: limits, maxBytes: limits, budget: new ByteBudget(0) }
      : limits;
  }

  /** Bytes that wait to be taken. */
  get bytes(): number {
    return this.#aheadBytes;
  }

  /** Begins to read from the source, as the first {@linkcode read} does. */
  begin(): void {
    if (!this.#isFilling) this.#fill();
  }

  /**
   * Returns the next piece; undefined at the end. Calls must not overlap.
   *
   * @throws The error of the source, after all bytes that were read before it.
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

  /** Returns the pieces as a stream. @param cancel Called if the stream is cancelled. */
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

  /** Returns the memory of a piece, which is then used again. @param piece The piece, or any part of it. */
  release(piece: Uint8Array<ArrayBuffer>): void {
    if (this.#lent.delete(piece.buffer)) this.#keep(new Uint8Array(piece.buffer));
  }

  /** Reads the source to its end, and discards what comes. */
  discard(): void {
    this.#isWanted = false;
    for (const { bytes } of this.#ahead.splice(0)) free(bytes);
    this.#aheadBytes = 0;
    this.#payBack();
    this.begin();
  }

  async #fill(): Promise<void> {
    this.#isFilling = true;
    while (!this.#ended && this.#hasRoom()) {
      try {
        const bytes = await this.#source();
        if (bytes) this.#add(bytes);
        else this.#ended = true;
      } catch (error) {
        this.#ended = true;
        this.#error = error; // read() throws it
      }
      this.#wake();
    }
    this.#isFilling = false;
    if (this.#ended) this.#spare.splice(0).forEach(free);
  }

  /** Tells whether more may wait; borrows a block from the budget if that takes one. */
  #hasRoom(): boolean {
    const { bytes, maxBytes, budget } = this.#limits;
    if (this.#aheadBytes < bytes + this.#borrowed) return true;
    if (this.#aheadBytes >= maxBytes || !budget.take(BLOCK_BYTES)) return false;
    this.#borrowed += BLOCK_BYTES;
    return true;
  }

  /** Gives back what is no longer needed of the budget. */
  #payBack(): void {
    const needed = Math.max(0, this.#aheadBytes - this.#limits.bytes);
    while (this.#borrowed >= needed + BLOCK_BYTES) {
      this.#borrowed -= BLOCK_BYTES;
      this.#limits.budget.give(BLOCK_BYTES);
    }
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
    this.#payBack();
    if (this.#aheadBytes === 0) this.#spare.splice(0).forEach(free); // it may stay so
    this.begin(); // since there is room
    if (length > MAX_COPIED_BYTES) {
      this.#lent.add(bytes.buffer);
      return bytes.subarray(0, length);
    }
    const copy = bytes.slice(0, length);
    this.#keep(bytes);
    return copy;
  }

  #keep(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#spare.length < MAX_SPARE_BLOCKS && !this.#ended) this.#spare.push(bytes);
    else free(bytes);
  }
}

/** Frees memory at once. The garbage collector, left alone, lets many blocks pile up. */
function free(bytes: Uint8Array<ArrayBuffer>): void {
  bytes.buffer.transfer(0);
}
