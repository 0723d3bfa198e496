/** The frames of a session (docs/protocol.md, "Frames"). All numbers are big-endian. */

/** Maximum length of the data in a frame that this program sends, and that it accepts. */
export const MAX_DATA_BYTES = 1 << 20;
/** Maximum length of a frame that is skipped because its type is reserved for later versions. */
const MAX_SKIPPED_BYTES = 1 << 16;

const FrameType = { START: 1, DATA: 2, END: 3, ACK: 4, STOP: 5, PROBE: 6, ECHO: 7 } as const;
/** First of the reserved types. Four bytes after the type give the length of the body, which is skipped. */
const FIRST_RESERVED_TYPE = 0x80;

/** Lengths of the fields after the type, before any data. */
const FIELD_BYTES: ReadonlyMap<number, number> = new Map([
  [FrameType.START, 4],
  [FrameType.DATA, 8 + 4],
  [FrameType.END, 8],
  [FrameType.ACK, 8 + 8],
  [FrameType.STOP, 0],
  [FrameType.PROBE, 4],
  [FrameType.ECHO, 4],
]);
const MAX_HEADER_BYTES = 1 + 16;

/** The peer sends something that breaks the protocol. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/** Length of a probe and of its echo. */
export const PROBE_BYTES = 5;

/** Collects frames for one write. */
export class FrameWriter {
  #capacity: number;
  /** Empty until there is a frame. */
  #bytes = new Uint8Array();
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  /** @param capacity Maximum length of all that is added between two calls of {@linkcode take}. */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Adds the first frame of a direction on a carrier. */
  start(generation: number): void {
    this.#type(FrameType.START);
    this.#uint32(generation);
  }

  /** Adds the header of a data frame. The caller sends the data after it. */
  dataHeader(offset: number, length: number): void {
    this.#type(FrameType.DATA);
    this.#uint64(offset);
    this.#uint32(length);
  }

  /** Adds a whole data frame. */
  data(offset: number, data: Uint8Array): void {
    this.dataHeader(offset, data.length);
    this.#bytes.set(data, this.#length);
    this.#length += data.length;
  }

  /** Adds the end of a direction, after `total` bytes of data. */
  end(total: number): void {
    this.#type(FrameType.END);
    this.#uint64(total);
  }

  /**
   * Adds an acknowledgement.
   *
   * @param received Number of bytes that have come, plus one for the end.
   * @param limit Offset up to which data may be sent.
   */
  ack(received: number, limit: number): void {
    this.#type(FrameType.ACK);
    this.#uint64(received);
    this.#uint64(limit);
  }

  /** Adds a stop, by which this end says that it reads no further. */
  stop(): void {
    this.#type(FrameType.STOP);
  }

  /** Adds a probe, which asks the other end to send `id` back on the same carrier. */
  probe(id: number): void {
    this.#type(FrameType.PROBE);
    this.#uint32(id);
  }

  /** Adds the answer to a probe. */
  echo(id: number): void {
    this.#type(FrameType.ECHO);
    this.#uint32(id);
  }

  /** Returns the frames, valid until the next one is added; undefined if there are none. */
  take(): Uint8Array<ArrayBuffer> | undefined {
    if (this.#length === 0) return undefined;
    const frames = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    return frames;
  }

  #type(type: number): void {
    if (this.#bytes.length === 0) {
      this.#bytes = new Uint8Array(this.#capacity);
      this.#view = new DataView(this.#bytes.buffer);
    }
    this.#bytes[this.#length++] = type;
  }

  #uint32(value: number): void {
    this.#view.setUint32(this.#length, value);
    this.#length += 4;
  }

  #uint64(value: number): void {
    this.#view.setBigUint64(this.#length, BigInt(value));
    this.#length += 8;
  }
}

/** Called with each frame. {@linkcode FrameReader.push} throws what a handler throws. */
export interface FrameHandler {
  start(generation: number): void;
  /** @param data A data frame, or a part of one. It is a view of what was pushed. */
  data(offset: number, data: Uint8Array<ArrayBuffer>): void;
  end(total: number): void;
  ack(received: number, limit: number): void;
  stop(): void;
  probe(id: number): void;
  echo(id: number): void;
}

/** Parses the frames that come by one carrier, however they are cut into pieces. */
export class FrameReader {
  #handler: FrameHandler;
  /** The fields of the present frame, as far as they have come. */
  #header = new Uint8Array(MAX_HEADER_BYTES);
  #view = new DataView(this.#header.buffer);
  #headerLength = 0;
  /** Offset of the data that comes next. */
  #offset = 0;
  /** Number of bytes of the present frame's body that are still to come. */
  #bodyLeft = 0;
  #isSkipping = false;

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  /** Calls the handler with each frame that the piece completes. @throws {FrameError} if a frame is invalid. */
  push(piece: Uint8Array<ArrayBuffer>): void {
    for (let at = 0; at < piece.length;) {
      if (this.#bodyLeft > 0) {
        const part = piece.subarray(at, at + this.#bodyLeft);
        this.#bodyLeft -= part.length;
        at += part.length;
        if (!this.#isSkipping) this.#handler.data(this.#offset, part);
        this.#offset += part.length;
        continue;
      }
      this.#header[this.#headerLength++] = piece[at++]!;
      if (this.#headerLength === 1 + this.#fieldBytes()) this.#onHeader();
    }
  }

  #fieldBytes(): number {
    const type = this.#header[0]!;
    if (type >= FIRST_RESERVED_TYPE) return 4;
    const bytes = FIELD_BYTES.get(type);
    if (bytes === undefined) throw new FrameError(`a frame of type ${type}`);
    return bytes;
  }

  #onHeader(): void {
    this.#headerLength = 0;
    const type = this.#header[0]!, view = this.#view;
    switch (type) {
      case FrameType.START:
        return this.#handler.start(view.getUint32(1));
      case FrameType.DATA:
        this.#offset = this.#uint64(1);
        return this.#expectBody(view.getUint32(9), MAX_DATA_BYTES, false);
      case FrameType.END:
        return this.#handler.end(this.#uint64(1));
      case FrameType.ACK:
        return this.#handler.ack(this.#uint64(1), this.#uint64(9));
      case FrameType.STOP:
        return this.#handler.stop();
      case FrameType.PROBE:
        return this.#handler.probe(view.getUint32(1));
      case FrameType.ECHO:
        return this.#handler.echo(view.getUint32(1));
      default:
        return this.#expectBody(view.getUint32(1), MAX_SKIPPED_BYTES, true);
    }
  }

  #expectBody(length: number, most: number, isSkipping: boolean): void {
    if (length > most) throw new FrameError(`a frame of ${length} bytes`);
    this.#bodyLeft = length;
    this.#isSkipping = isSkipping;
  }

  #uint64(at: number): number {
    const value = this.#view.getBigUint64(at);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new FrameError("an offset that is too large");
    }
    return Number(value);
  }
}
