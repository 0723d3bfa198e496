/** Bytes in a queue, copied into blocks of memory that are used again and again. */

/** Size of a block. Larger ones pass bytes on in fewer pieces, and leave the processor's cache. */
export const BLOCK_BYTES = 256 * 1024;
/** Size of the block that an empty queue takes for little. */
const SMALL_BLOCK_BYTES = 16 * 1024;
/** Maximum number of blocks that a queue keeps for later. An empty queue may stay so, and keeps a small one alone. */
const MAX_SPARE = 8;

interface Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where the bytes begin that are still queued, and where they end. */
  begin: number;
  end: number;
}

/** A queue of bytes. What is appended is copied; what is taken or viewed is not, unless it is little. */
export class BlockQueue {
  #blocks: Block[] = [];
  #length = 0;
  /** Weak, since what was taken may never be given back. */
  #lent = new WeakSet<ArrayBuffer>();
  #spare: Uint8Array<ArrayBuffer>[] = [];
  /** Memory of the block that was viewed last, until {@linkcode endView}. */
  #viewed: Uint8Array<ArrayBuffer> | undefined;

  /** Number of bytes in the queue. */
  get length(): number {
    return this.#length;
  }

  /** Appends a copy of the bytes. */
  append(bytes: Uint8Array): void {
    this.#length += bytes.length;
    for (let rest = bytes; rest.length > 0;) {
      const block = this.#blockWithRoom(rest.length);
      const part = rest.subarray(0, block.bytes.length - block.end);
      block.bytes.set(part, block.end);
      block.end += part.length;
      rest = rest.subarray(part.length);
    }
  }

  /**
   * Takes the first bytes, at most {@linkcode BLOCK_BYTES}; undefined if the queue is empty. The caller
   * gives them back by {@linkcode release}, and may do so at any time, or never.
   */
  take(): Uint8Array<ArrayBuffer> | undefined {
    const block = this.#blocks.shift();
    if (!block) return undefined;
    const piece = block.bytes.subarray(block.begin, block.end);
    this.#length -= piece.length;
    if (piece.length > SMALL_BLOCK_BYTES) {
      this.#lent.add(piece.buffer);
      this.#trim();
      return piece;
    }
    const copy = piece.slice(); // so that a whole block is not lent for little
    this.#keep(block.bytes);
    this.#trim();
    return copy;
  }

  /** Takes back the memory of a piece, or of a part of it, with which the caller is done. */
  release(piece: Uint8Array<ArrayBuffer>): void {
    if (!this.#lent.delete(piece.buffer)) return;
    this.#keep(new Uint8Array(piece.buffer));
    this.#trim();
  }

  /**
   * Returns a view of queued bytes, at most `most`. It is valid until {@linkcode endView} or the next view, also
   * if the bytes are discarded before.
   *
   * @param offset Where it begins, in bytes from the head of the queue.
   */
  view(offset: number, most: number): Uint8Array<ArrayBuffer> {
    let before = 0;
    for (const { bytes, begin, end } of this.#blocks) {
      const length = end - begin;
      if (offset < before + length) {
        const from = begin + offset - before;
        this.#viewed = bytes;
        return bytes.subarray(from, Math.min(end, from + most));
      }
      before += length;
    }
    return new Uint8Array();
  }

  /** Says that the view is no longer used. */
  endView(): void {
    this.#viewed = undefined;
  }

  /** Removes so many bytes from the head. */
  discard(count: number): void {
    this.#length -= count;
    for (let left = count; left > 0;) {
      const block = this.#blocks[0]!, length = block.end - block.begin;
      if (left < length) {
        block.begin += left;
        return;
      }
      this.#blocks.shift();
      this.#keep(block.bytes);
      left -= length;
    }
    this.#trim();
  }

  /** Forgets all bytes, and gives its memory back. */
  clear(): void {
    this.discard(this.#length);
    this.#spare.splice(0).forEach(free);
    this.#lent = new WeakSet();
  }

  #blockWithRoom(wanted: number): Block {
    const last = this.#blocks.at(-1);
    if (last && last.end < last.bytes.length) return last;
    const isSmall = this.#blocks.length === 0 && wanted <= SMALL_BLOCK_BYTES;
    const bytes = this.#spareOf(isSmall ? SMALL_BLOCK_BYTES : BLOCK_BYTES);
    const block = { bytes, begin: 0, end: 0 };
    this.#blocks.push(block);
    return block;
  }

  #spareOf(size: number): Uint8Array<ArrayBuffer> {
    const index = this.#spare.findLastIndex(({ length }) => length === size);
    return index < 0 ? new Uint8Array(size) : this.#spare.splice(index, 1)[0]!;
  }

  #keep(bytes: Uint8Array<ArrayBuffer>): void {
    if (bytes === this.#viewed) return; // it is being read
    if (this.#spare.length < MAX_SPARE) this.#spare.push(bytes);
    else free(bytes);
  }

  #trim(): void {
    if (this.#length > 0) return;
    const small = this.#spare.findIndex(({ length }) => length === SMALL_BLOCK_BYTES);
    const kept = small < 0 ? [] : this.#spare.splice(small, 1);
    this.#spare.forEach(free);
    this.#spare = kept;
  }
}

/** Gives memory back at once: the garbage collector would let much more pile up. */
function free(bytes: Uint8Array<ArrayBuffer>): void {
  bytes.buffer.transfer(0);
}
