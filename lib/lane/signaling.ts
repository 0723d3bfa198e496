/** The messages on a lane stream: a byte for the kind, two for the length, and the body. */

import type { Duplex } from "../streams/duplex.ts";
import { LaneError } from "./lane.ts";
import { decodeOffer, encodeOffer, MOST_OFFER_BYTES, type Offer } from "./offer.ts";

/** What the two ends say to each other. */
export type SignalingMessage =
  | { readonly kind: "offer"; readonly offer: Offer }
  | { readonly kind: "none" }
  | { readonly kind: "made" };

const Kind = { OFFER: 1, NONE: 2, MADE: 3 } as const;
const HEADER_BYTES = 3;

/** A lane stream, after the byte that says what it is for. */
export class SignalingStream {
  #reader: ReadableStreamBYOBReader;
  #writer: WritableStreamDefaultWriter<Uint8Array>;
  /** Read already, for {@linkcode hasMore}. */
  #ahead: Promise<SignalingMessage | undefined> | undefined;

  constructor(stream: Duplex) {
    this.#reader = stream.readable.getReader({ mode: "byob" });
    this.#writer = stream.writable.getWriter();
    this.#writer.closed.catch(() => {}); // writes fail with the same
  }

  async send(message: SignalingMessage): Promise<void> {
    switch (message.kind) {
      case "offer":
        return await this.#send(Kind.OFFER, encodeOffer(message.offer));
      case "none":
        return await this.#send(Kind.NONE);
      case "made":
        return await this.#send(Kind.MADE);
    }
  }

  async #send(kind: number, body: Uint8Array = new Uint8Array()): Promise<void> {
    const bytes = new Uint8Array(HEADER_BYTES + body.length);
    bytes.set([kind, body.length >> 8, body.length & 0xff]);
    bytes.set(body, HEADER_BYTES);
    await this.#writer.write(bytes);
  }

  /**
   * The next message; undefined when there are no more.
   *
   * @throws {LaneError} if it is none.
   */
  async receive(): Promise<SignalingMessage | undefined> {
    const next = this.#ahead ?? this.#next();
    this.#ahead = undefined;
    return await next;
  }

  /** Whether there is a next message, which is left where it is. @throws As {@linkcode receive}. */
  async hasMore(): Promise<boolean> {
    this.#ahead ??= this.#next();
    return await this.#ahead !== undefined;
  }

  async #next(): Promise<SignalingMessage | undefined> {
    const header = await this.#readExactly(HEADER_BYTES);
    if (!header) return undefined;
    const length = header[1]! << 8 | header[2]!;
    if (length > MOST_OFFER_BYTES) throw new LaneError(`a message of ${length} bytes`);
    const body = length > 0 ? await this.#readExactly(length) : new Uint8Array();
    if (!body) throw new LaneError("a message that is cut short");
    switch (header[0]) {
      case Kind.OFFER:
        return { kind: "offer", offer: decodeOffer(body) };
      case Kind.NONE:
        return { kind: "none" };
      case Kind.MADE:
        return { kind: "made" };
      default:
        throw new LaneError(`a message of kind ${header[0]}`);
    }
  }

  /** Ends it, after what has been sent. */
  close(): void {
    this.#writer.close().catch(() => {}); // the connection is gone, and the stream with it
    this.#reader.cancel().catch(() => {}); // as above
  }

  async #readExactly(length: number): Promise<Uint8Array | undefined> {
    const { value } = await this.#reader.read(new Uint8Array(length), { min: length });
    if (!value || value.length === 0) return undefined;
    if (value.length < length) throw new LaneError("a message that is cut short");
    return value;
  }
}
