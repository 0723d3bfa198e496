/** A direct connection beside iroh's, over which a session goes on. */

import { ReadAhead } from "../streams/read_ahead.ts";

/** What a lane is made of, as TLS and QUIC have it. */
export interface Transport {
  readonly kind: "TLS" | "QUIC";
  /** Address of the other end. */
  readonly remote: string;
  /** The next bytes, at least one, valid until the next call; undefined at the end. */
  read(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Hands over all bytes, which may be changed after that. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends it at once, both directions. What waits for it fails, or ends. May be called again. */
  close(): void;
  /** Called for the one that becomes the lane: the port it came by is about to be closed. */
  keep?(): void;
}

/** Most bytes that are read before anybody wants them. */
const READ_AHEAD_BYTES = 512 * 1024;

/** A transport that is read ahead of whoever wants the bytes. */
export class Lane {
  #transport: Transport;
  #ahead: ReadAhead;

  constructor(transport: Transport) {
    this.#transport = transport;
    this.#ahead = new ReadAhead(() => transport.read(), READ_AHEAD_BYTES);
  }

  get kind(): Transport["kind"] {
    return this.#transport.kind;
  }

  get remote(): string {
    return this.#transport.remote;
  }

  /** The next bytes, at least one; undefined at the end. @throws What the transport throws. */
  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return await this.#ahead.read();
  }

  /** Whoever got a piece is done with it. */
  release(piece: Uint8Array<ArrayBuffer>): void {
    this.#ahead.release(piece);
  }

  /** Reads on to the end, and throws away what comes; also while a read waits. */
  discard(): void {
    this.#ahead.discard();
  }

  /** Hands over all bytes, which may be changed after that. */
  async write(bytes: Uint8Array): Promise<void> {
    await this.#transport.write(bytes);
  }

  /** Ends it at once, both directions. What waits for it fails, or ends. May be called again. */
  close(): void {
    this.#transport.close();
  }
}

/** A lane, or what was to become one, does not do as it should. */
export class LaneError extends Error {
  override readonly name = "LaneError";
}
