/** The messages on a lane stream: a byte for the kind, two for the length, and the body. */

import type { Duplex } from "../streams/duplex.ts";
import { LaneError } from "./lane.ts";
import { decodeOffer, encodeOffer, MOST_OFFER_BYTES, type Offer } from "./offer.ts";

/** How far the data that comes by a lane has got. */
export interface Progress {
  /** Bytes of data received, in the whole session. */
  readonly received: number;
  /** All that has come was passed on, and with it the end. */
  readonly state: "under way" | "passed on" | "ended";
}

/** What the two ends say to each other. */
export type SignalingMessage =
  | { readonly kind: "offer"; readonly offer: Offer }
  | { readonly kind: "none" }
  | { readonly kind: "progress"; readonly progress: Progress }
  | { readonly kind: "stop" };

const Kind = { OFFER: 1, NONE: 2, PROGRESS: 3, STOP: 4 } as const;
const STATES = ["under way", "passed on", "ended"] as const;
const HEADER_BYTES = 3, PROGRESS_BYTES = 9;

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
      case "progress":
        return await this.#send(Kind.PROGRESS, encodeProgress(message.progress));
      case "stop":
        return await this.#send(Kind.STOP);
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
      case Kind.PROGRESS:
        return { kind: "progress", progress: decodeProgress(body) };
      case Kind.STOP:
        return { kind: "stop" };
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

function encodeProgress({ received, state }: Progress): Uint8Array {
  const body = new Uint8Array(PROGRESS_BYTES);
  new DataView(body.buffer).setBigUint64(0, BigInt(received));
  body[8] = STATES.indexOf(state);
  return body;
}

function decodeProgress(body: Uint8Array): Progress {
  const state = STATES[body[8] ?? -1];
  if (body.length !== PROGRESS_BYTES || !state) throw new LaneError("a progress that is none");
  const received = new DataView(body.buffer, body.byteOffset).getBigUint64(0);
  return { received: Number(received), state };
}
