/** The frames of a session, in one direction: data, its end, or the move to another transport. */

/** Most data in a frame. */
export const MOST_FRAME_BYTES = 1 << 20;
/** What the first four bytes of a frame say, if not how much data follows. */
const END = 0, MOVE = 0xffffffff;
const HEADER_BYTES = 4, MARK_BYTES = 8;

/** What does not keep to the protocol, or comes short. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/** Makes frames of data, each in place of the one before. */
export class FrameWriter {
  #buffer = new Uint8Array();

  /** A frame, which the next call overwrites. @param data At most {@linkcode MOST_FRAME_BYTES}. */
  data(data: Uint8Array): Uint8Array<ArrayBuffer> {
    const length = HEADER_BYTES + data.length;
    if (this.#buffer.length < length) this.#buffer = new Uint8Array(length);
    new DataView(this.#buffer.buffer).setUint32(0, data.length);
    this.#buffer.set(data, HEADER_BYTES);
    return this.#buffer.subarray(0, length);
  }
}

/** The frame that says that nothing follows. @param total Bytes of data before it. */
export function endFrame(total: number): Uint8Array<ArrayBuffer> {
  return markFrame(END, total);
}

/** The frame that says that what follows does so elsewhere. @param total Bytes of data before it. */
export function migrateFrame(total: number): Uint8Array<ArrayBuffer> {
  return markFrame(MOVE, total);
}

function markFrame(kind: number, total: number): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(HEADER_BYTES + MARK_BYTES);
  const view = new DataView(frame.buffer);
  view.setUint32(0, kind);
  view.setBigUint64(HEADER_BYTES, BigInt(total));
  return frame;
}

/** What a piece of the bytes on a transport holds. */
export interface DecodedFrames {
  /** Views of the piece. */
  readonly data: Uint8Array<ArrayBuffer>[];
  readonly mark?: "end" | "move";
}

/** Takes one direction's frames apart, however they are cut into pieces. */
export class FrameReader {
  /** Bytes of data so far. */
  received = 0;
  /** Of the data frame that has begun. */
  #left = 0;
  /** The header, or the mark, that has begun. */
  #head = new Uint8Array(HEADER_BYTES + MARK_BYTES);
  #headLength = 0;
  #ended = false;

  /** @throws {FrameError} if it is against the protocol. */
  push(piece: Uint8Array<ArrayBuffer>): DecodedFrames {
    const data: Uint8Array<ArrayBuffer>[] = [];
    for (let at = 0; at < piece.length;) {
      if (this.#ended) throw new FrameError("something comes after the end");
      if (this.#left > 0) {
        const part = piece.subarray(at, at + this.#left);
        data.push(part);
        this.#left -= part.length;
        this.received += part.length;
        at += part.length;
        continue;
      }
      this.#head[this.#headLength++] = piece[at++]!;
      const mark = this.#readHead();
      if (!mark) continue;
      this.#ended = mark === "end";
      if (at < piece.length) throw new FrameError(`something comes after the ${mark}`);
      return { data, mark };
    }
    return { data };
  }

  #readHead(): "end" | "move" | undefined {
    if (this.#headLength < HEADER_BYTES) return undefined;
    const view = new DataView(this.#head.buffer);
    const kind = view.getUint32(0);
    if (kind !== END && kind !== MOVE) {
      if (kind > MOST_FRAME_BYTES) throw new FrameError(`a frame of ${kind} bytes`);
      this.#left = kind;
      this.#headLength = 0;
      return undefined;
    }
    if (this.#headLength < HEADER_BYTES + MARK_BYTES) return undefined;
    this.#headLength = 0;
    const total = view.getBigUint64(HEADER_BYTES);
    if (total !== BigInt(this.received)) {
      throw new FrameError(`${this.received} bytes came of ${total}`);
    }
    return kind === END ? "end" : "move";
  }
}
