/** Follows git's packets (gitprotocol-common(5)). */

/** The packet without data, with which an answer ends. */
export const FLUSH = "0000";

/** Some of a packet's data. */
export interface Piece {
  readonly bytes: Uint8Array;
  /** First byte of the packet's data. */
  readonly first: number;
  readonly isBegin: boolean;
}

/** Follows git's packets in one direction, as far as there are only packets. */
export class GitPackets {
  /** The length of a packet, as far as it has come: four hexadecimal digits. */
  #length = "";
  /** Bytes that are to come of the present packet. */
  left = 0;
  /** First byte of the last packet's data; undefined if it has none. */
  first: number | undefined;
  /** False if it is something else than packets, of which nothing is known. */
  isValid = true;

  /** @param onFlush Called for each packet without data that ends something. */
  constructor(readonly onFlush = () => {}) {}

  /** Whether all of the last packet has come. */
  get isBetween(): boolean {
    return this.isInData && this.left === 0;
  }

  /** Whether the length of the last packet has come. */
  get isInData(): boolean {
    return this.#length === "";
  }

  /** Yields the data of packets. */
  *read(data: Uint8Array = new Uint8Array()): Generator<Piece> {
    for (let at = 0; at < data.length && this.isValid;) {
      if (this.left > 0) {
        const bytes = data.subarray(at, at + this.left), isBegin = this.first === undefined;
        const first = this.first ??= bytes[0]!;
        this.left -= bytes.length;
        at += bytes.length;
        yield { bytes, first, isBegin };
        continue;
      }
      this.#length += String.fromCharCode(data[at++]!);
      if (this.#length.length === FLUSH.length) this.#begin();
    }
  }

  #begin(): void {
    const length = this.#length;
    this.#length = "";
    this.isValid = /^[0-9a-f]{4}$/i.test(length);
    this.first = undefined;
    if (length === FLUSH) this.onFlush();
    this.left = Math.max(0, parseInt(length, 16) - FLUSH.length) || 0;
  }
}

/** Returns a packet of git. */
export function packet(text: string): string {
  return (text.length + FLUSH.length).toString(16).padStart(FLUSH.length, "0") + text;
}
