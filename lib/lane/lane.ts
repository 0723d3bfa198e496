/** A direct connection beside iroh's, over which a session goes on. */

/** What a lane is made of, as TLS and QUIC have it. */
export interface Transport {
  readonly kind: "TLS" | "QUIC";
  /** Address of the other end. */
  readonly remote: string;
  /** The next bytes, at least one; undefined at the end. */
  read(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Hands over all bytes, which may be changed after that. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends it at once, both directions. What waits for it fails. May be called again. */
  close(): void;
  /** Called for the one that becomes the lane: the port it came by is about to be closed. */
  keep?(): void;
}

/** Most bytes that are read before anybody wants them. */
const READ_AHEAD_BYTES = 256 * 1024;

/**
 * A transport that is read ahead of whoever wants the bytes, so that they come in few large pieces while
 * the one before is being passed on: each TLS record by itself would cost more to pass on than to decrypt.
 */
export class Lane implements Transport {
  #transport: Transport;
  #ahead: Uint8Array<ArrayBuffer>[] = [];
  #aheadBytes = 0;
  #reading: Promise<void> | undefined;
  #ended = false;
  #error: unknown;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  get kind(): Transport["kind"] {
    return this.#transport.kind;
  }

  get remote(): string {
    return this.#transport.remote;
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    this.#readAhead();
    while (this.#aheadBytes === 0 && !this.#ended) await this.#reading;
    if (this.#aheadBytes > 0) return this.#takeAll();
    if (this.#error !== undefined) throw this.#error;
    return undefined;
  }

  /** So many bytes and not one more. @throws {LaneError} if it ends before. */
  async take(length: number): Promise<Uint8Array> {
    const taken = new Uint8Array(length);
    for (let have = 0; have < length;) {
      const piece = await this.read();
      if (!piece) throw new LaneError("it ended early");
      const part = piece.subarray(0, length - have);
      taken.set(part, have);
      have += part.length;
      if (part.length < piece.length) {
        this.#ahead.unshift(piece.subarray(part.length));
        this.#aheadBytes += piece.length - part.length;
      }
    }
    return taken;
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#transport.write(bytes);
  }

  close(): void {
    this.#transport.close();
  }

  keep(): void {
    this.#transport.keep?.();
  }

  /** Reads once, and goes on while there is room and somebody has wanted something. */
  #readAhead(): void {
    if (this.#reading || this.#ended || this.#aheadBytes >= READ_AHEAD_BYTES) return;
    this.#reading = this.#transport.read().then((piece) => {
      if (!piece) this.#ended = true;
      else {
        this.#ahead.push(piece);
        this.#aheadBytes += piece.length;
      }
    }, (error) => {
      this.#ended = true;
      this.#error = error;
    }).then(() => {
      this.#reading = undefined;
      this.#readAhead();
    });
  }

  #takeAll(): Uint8Array<ArrayBuffer> {
    const [first] = this.#ahead, pieces = this.#ahead, length = this.#aheadBytes;
    this.#ahead = [];
    this.#aheadBytes = 0;
    if (pieces.length === 1) return first!;
    const all = new Uint8Array(length);
    let at = 0;
    for (const piece of pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }
}

/** A lane, or what was to become one, does not do as it should. */
export class LaneError extends Error {
  override readonly name = "LaneError";
}
