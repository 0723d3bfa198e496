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

/** A transport from which so many bytes can be taken, before it is read from like any other. */
export class Lane implements Transport {
  #transport: Transport;
  #rest: Uint8Array<ArrayBuffer> = new Uint8Array();

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
    if (this.#rest.length === 0) return await this.#transport.read();
    const rest = this.#rest;
    this.#rest = new Uint8Array();
    return rest;
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
      this.#rest = piece.subarray(part.length);
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
}

/** A lane, or what was to become one, does not do as it should. */
export class LaneError extends Error {
  override readonly name = "LaneError";
}
