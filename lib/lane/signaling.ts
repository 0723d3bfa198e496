/** The messages on a signaling stream, by which the two ends of a session negotiate a lane. */

import type { Duplex } from "../streams/duplex.ts";
import { MessageFormat } from "../streams/message_format.ts";
import { LaneError } from "./lane.ts";
import { decodeOffer, encodeOffer, MAX_OFFER_BYTES, type Offer } from "./offer.ts";

/** What one end tells the other. */
export type SignalingMessage =
  /** How to reach the end that sends it. The first message of each end, the opener's first. */
  | { readonly kind: "offer"; readonly offer: Offer }
  /** There is to be no lane. Sent in place of an answering offer. */
  | { readonly kind: "none" }
  /** The lane is made, as far as the end that sends it can see. */
  | { readonly kind: "made" };

/** Kinds of messages on the stream. */
export const SignalingKind = { OFFER: 1, NONE: 2, MADE: 3 } as const;

const FORMAT = new MessageFormat(2);

/** A signaling stream, after its header. */
export class SignalingStream {
  #reader: ReadableStreamBYOBReader;
  #writer: WritableStreamDefaultWriter<Uint8Array>;
  /** The next message, if {@linkcode hasMore} has begun to read it. */
  #ahead: Promise<SignalingMessage | undefined> | undefined;

  constructor(stream: Duplex) {
    this.#reader = stream.readable.getReader({ mode: "byob" });
    this.#writer = stream.writable.getWriter();
    this.#writer.closed.catch(() => {}); // writes fail with the same error
  }

  async send(message: SignalingMessage): Promise<void> {
    switch (message.kind) {
      case "offer":
        return await this.#send(SignalingKind.OFFER, encodeOffer(message.offer));
      case "none":
        return await this.#send(SignalingKind.NONE);
      case "made":
        return await this.#send(SignalingKind.MADE);
    }
  }

  async #send(kind: number, body: Uint8Array = new Uint8Array()): Promise<void> {
    await this.#writer.write(FORMAT.encode(kind, body));
  }

  /**
   * Returns the next message; undefined at the end of the stream.
   *
   * @throws {LaneError} if what comes is not a message, {@linkcode InvalidOffer} if it is not a valid offer.
   */
  async receive(): Promise<SignalingMessage | undefined> {
    const next = this.#ahead ?? this.#next();
    this.#ahead = undefined;
    return await next;
  }

  /** Returns true if a further message comes, which {@linkcode receive} then returns. @throws As that does. */
  async hasMore(): Promise<boolean> {
    this.#ahead ??= this.#next();
    return await this.#ahead !== undefined;
  }

  async #next(): Promise<SignalingMessage | undefined> {
    const header = await this.#readExactly(FORMAT.headerBytes);
    if (!header) return undefined;
    const { kind, length } = FORMAT.decodeHeader(header);
    if (length > MAX_OFFER_BYTES) throw new LaneError(`a message of ${length} bytes is too long`);
    const body = length > 0 ? await this.#readExactly(length) : new Uint8Array();
    if (!body) throw new LaneError("a message is cut short");
    switch (kind) {
      case SignalingKind.OFFER:
        return { kind: "offer", offer: decodeOffer(body) };
      case SignalingKind.NONE:
        return { kind: "none" };
      case SignalingKind.MADE:
        return { kind: "made" };
      default:
        throw new LaneError(`a message has the unknown kind ${kind}`);
    }
  }

  /** Closes the stream after what has been sent. */
  close(): void {
    this.#writer.close().catch(() => {}); // the connection is gone, and the stream with it
    this.#reader.cancel().catch(() => {}); // the connection is gone, and the stream with it
  }

  async #readExactly(length: number): Promise<Uint8Array | undefined> {
    const { value } = await this.#reader.read(new Uint8Array(length), { min: length });
    if (!value || value.length === 0) return undefined;
    if (value.length < length) throw new LaneError("a message is cut short");
    return value;
  }
}
