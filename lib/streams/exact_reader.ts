/** Reads pieces of known length from a source of bytes, such as a socket. */

/** The source ended within a piece. */
export class UnexpectedEnd extends Error {
  override readonly name = "UnexpectedEnd";

  constructor(readonly received: number, readonly expected: number) {
    super(`the end after ${received} of ${expected} bytes`);
  }
}

/** Reads at least one byte into the buffer. Returns the number of bytes; null at the end. */
export type ByteSource = (buffer: Uint8Array<ArrayBuffer>) => Promise<number | null>;

/** Reads a source into a buffer, from which it gives pieces of any length. */
export class ExactReader {
  readonly #source: ByteSource;
  #buffer: Uint8Array<ArrayBuffer>;
  #begin = 0;
  #end = 0;

  /** @param bufferBytes Size of the buffer, which grows if a piece is longer. */
  constructor(source: ByteSource, bufferBytes: number) {
    this.#source = source;
    this.#buffer = new Uint8Array(bufferBytes);
  }

  /**
   * Returns the next piece, which is valid until the next call. Calls must not overlap.
   *
   * @throws {UnexpectedEnd} if the source ends before, or the error of the source.
   */
  async read(length: number): Promise<Uint8Array<ArrayBuffer>> {
    this.#makeRoom(length);
    while (this.#end - this.#begin < length) {
      const read = await this.#source(this.#buffer.subarray(this.#end));
      if (read === null) throw new UnexpectedEnd(this.#end - this.#begin, length);
      this.#end += read;
    }
    const piece = this.#buffer.subarray(this.#begin, this.#begin + length);
    this.#begin += length;
    return piece;
  }

  #makeRoom(length: number): void {
    if (this.#begin + length <= this.#buffer.length) return;
    const unread = this.#buffer.subarray(this.#begin, this.#end);
    if (length > this.#buffer.length) this.#buffer = new Uint8Array(length);
    this.#buffer.set(unread);
    this.#end -= this.#begin;
    this.#begin = 0;
  }
}
