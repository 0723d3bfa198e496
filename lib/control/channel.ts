/**
 * What a listener and the processes of its repository say to each other on the control socket:
 * messages, each a byte for its kind, four for the length of its body, and the body. Both are of one
 * version, by control/locator.ts, so that this may change as it likes.
 */

import { delay } from "../async/abort.ts";
import { closeQuietly, isClosedError } from "../platform/socket_errors.ts";
import { type Duplex, StreamError, type StreamErrorKind } from "../streams/duplex.ts";

/** What a message is. */
export const MessageKind = {
  /** A {@linkcode Request}, the first of a process. */
  REQUEST: 0,
  /** The listener has read it, and goes about it. */
  ACCEPTED: 1,
  /** A failure, in place of an answer. */
  FAILED: 2,
  /** The answer to the request. */
  ANSWER: 3,
  /** From here on a stream's: its bytes, its end, why it ends before, and that no more is read. */
  DATA: 4,
  END: 5,
  RESET: 6,
  STOP: 7,
  /** The connection with the peer has ended. */
  CLOSED: 8,
  /** How far the process has got. */
  REPORT: 9,
  /** Asks whether the other end is there. */
  KEEPALIVE: 10,
} as const;
export type MessageKind = typeof MessageKind[keyof typeof MessageKind];

export interface ChannelMessage {
  readonly kind: MessageKind;
  readonly body: Uint8Array<ArrayBuffer>;
}

const HEADER_BYTES = 5;
/** Most bytes of a body, and of data in one. */
const MOST_BODY_BYTES = 1 << 20, MOST_DATA_BYTES = 64 * 1024;
const READ_BYTES = HEADER_BYTES + MOST_DATA_BYTES;
/** Most data that waits to be read. */
const READ_AHEAD_BYTES = 256 * 1024;

/** How often to look whether the other end is there while nothing of it is read. */
const LOOK_MS = 1_000;

/** The other end says what makes no sense. */
export class ChannelError extends Error {
  override readonly name = "ChannelError";
}

/** One end of a connection to the control socket. Dispose of it when done. */
export class Channel implements Disposable {
  #connection: Deno.UnixConn;
  #buffer = new Uint8Array(READ_BYTES);
  #begin = 0;
  #end = 0;
  #sending: Promise<void> = Promise.resolve();

  constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
  }

  /** Sends a message. Calls may overlap. @throws What the system says when the other end is gone. */
  async send(kind: MessageKind, body: Uint8Array = new Uint8Array()): Promise<void> {
    const message = new Uint8Array(HEADER_BYTES + body.length);
    message[0] = kind;
    new DataView(message.buffer).setUint32(1, body.length);
    message.set(body, HEADER_BYTES);
    const sent = this.#sending.then(async () => {
      for (let rest = message; rest.length > 0;) {
        rest = rest.subarray(await this.#connection.write(rest));
      }
    });
    this.#sending = sent.catch(() => {}); // whoever sent it is told
    await sent;
  }

  /** Resolves when all that was sent has been handed over, or cannot be. */
  async flush(): Promise<void> {
    await this.#sending;
  }

  async sendJson(kind: MessageKind, value: unknown): Promise<void> {
    await this.send(kind, new TextEncoder().encode(JSON.stringify(value)));
  }

  /**
   * The next message, whose body is valid until the next call; undefined if there are no more.
   *
   * @throws {Deno.errors.ConnectionReset} if the other end has left something unread, as Linux tells.
   */
  async receive(): Promise<ChannelMessage | undefined> {
    const header = await this.#readExactly(HEADER_BYTES);
    if (!header) return undefined;
    const kind = header[0] as MessageKind;
    const length = new DataView(header.buffer, header.byteOffset).getUint32(1);
    if (length > MOST_BODY_BYTES) throw new ChannelError(`a message of ${length} bytes`);
    const body = await this.#readExactly(length);
    return body && { kind, body };
  }

  /** So many bytes; undefined if they do not come any more. */
  async #readExactly(length: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (this.#begin + length > this.#buffer.length) {
      const waiting = this.#buffer.subarray(this.#begin, this.#end);
      if (length > this.#buffer.length) this.#buffer = new Uint8Array(length);
      this.#buffer.set(waiting);
      this.#end -= this.#begin;
      this.#begin = 0;
    }
    while (this.#end - this.#begin < length) {
      const read = await this.#connection.read(this.#buffer.subarray(this.#end)).catch((error) => {
        if (error instanceof Deno.errors.ConnectionReset) throw error;
        return ifGone(error);
      });
      if (read === null) return undefined;
      this.#end += read;
    }
    const bytes = this.#buffer.subarray(this.#begin, this.#begin + length);
    this.#begin += length;
    return bytes;
  }

  [Symbol.dispose](): void {
    closeQuietly(this.#connection);
  }
}

/** That the other end is gone is the end; every other error is thrown. */
function ifGone(error: unknown): null {
  if (!isClosedError(error)) throw error;
  return null;
}

/** The body of a message as JSON. @throws {ChannelError} if it is none. */
export function jsonOf({ body }: ChannelMessage): Record<string, unknown> {
  try {
    const value = JSON.parse(new TextDecoder().decode(body));
    if (value !== null && typeof value === "object") return value;
  } catch {
    // said below
  }
  throw new ChannelError("a message that is no object");
}

/** What the two ends of a {@linkcode ProxiedStream} tell each other beside its bytes. */
export interface ProxiedStreamOptions {
  /** The other end of the channel is there no more, for people. */
  readonly gone: string;
  /** Told each report. */
  readonly report?: (report: Record<string, unknown>) => void;
  /**
   * When what comes is the stream's: not while the answer to a request is still to come. If it rejects, the
   * stream is lost.
   */
  readonly begins?: Promise<unknown>;
}

/** A stream of a connection with a peer, as it is handed through a channel. Both ends are alike. */
export class ProxiedStream implements Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
  /** Resolves when the connection with the peer, or the channel, has ended. */
  readonly closedError: Promise<StreamError>;
  /** Whether the other end has said all, and may go. */
  hasEnded = false;
  #channel: Channel;
  #options: ProxiedStreamOptions;
  #closed = Promise.withResolvers<StreamError>();
  #readController!: ReadableByteStreamController;
  #writeController!: WritableStreamDefaultController;
  #isReadable = true;
  /** Of what tells the other end that this one has said all. */
  #ending: Promise<void> | undefined;
  #wanted = Promise.withResolvers<void>();

  constructor(channel: Channel, options: ProxiedStreamOptions) {
    this.#channel = channel;
    this.#options = options;
    this.closedError = this.#closed.promise;
    this.readable = new ReadableStream({
      type: "bytes",
      start: (controller) => void (this.#readController = controller),
      pull: () => this.#wanted.resolve(),
      cancel: async (reason) => {
        this.#isReadable = false;
        this.#wanted.resolve();
        await this.#sendError(MessageKind.STOP, reason);
      },
    }, { highWaterMark: READ_AHEAD_BYTES });
    this.writable = new WritableStream({
      start: (controller) => void (this.#writeController = controller),
      write: async (chunk) => {
        for (let at = 0; at < chunk.length; at += MOST_DATA_BYTES) {
          await this.#send(MessageKind.DATA, chunk.subarray(at, at + MOST_DATA_BYTES));
        }
      },
      close: () => this.#ending = this.#send(MessageKind.END),
      abort: (reason) => this.#sendError(MessageKind.RESET, reason),
    });
    this.#run().then(() => this.#onChannelEnd(), (error) => this.#onChannelLost(error));
  }

  /** Tells the other end that the connection has ended. */
  async sendClosed(error: StreamError): Promise<void> {
    await this.#sendError(MessageKind.CLOSED, error);
  }

  async #run(): Promise<void> {
    await this.#options.begins;
    for (let message; (message = await this.#channel.receive());) {
      switch (message.kind) {
        case MessageKind.DATA:
          if (this.#isReadable) await this.#enqueue(message.body);
          break;
        case MessageKind.END:
          this.hasEnded = true;
          this.#endReading();
          break;
        case MessageKind.RESET:
          this.#failReading(decodeError(message));
          break;
        case MessageKind.STOP:
          this.#writeController.error(decodeError(message));
          break;
        case MessageKind.CLOSED:
          this.#closed.resolve(decodeError(message));
          break;
        case MessageKind.REPORT:
          this.#options.report?.(jsonOf(message));
          break;
        case MessageKind.KEEPALIVE:
          break;
        default:
          throw new ChannelError(`a message of kind ${message.kind}`);
      }
    }
  }

  async #enqueue(data: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#wanted = Promise.withResolvers();
    this.#readController.enqueue(data.slice());
    // Nothing is read meanwhile, not even that the other end is gone.
    while (this.#isReadable && this.#readController.desiredSize! <= 0) {
      const limit = new AbortController();
      await Promise.race([this.#wanted.promise, delay(LOOK_MS, limit.signal)]);
      limit.abort();
      // What has come of it counts all the same: the reading tells when it is gone.
      if (!await this.#channel.send(MessageKind.KEEPALIVE).then(() => true, () => false)) return;
    }
  }

  #endReading(): void {
    if (!this.#isReadable) return;
    this.#isReadable = false;
    this.#readController.close();
    this.#readController.byobRequest?.respond(0); // or a read with a buffer of its own never ends
  }

  #failReading(error: StreamError): void {
    if (this.#isReadable) this.#readController.error(error);
    this.#isReadable = false;
  }

  /**
   * The channel has ended: in order where both ends have said all, and heard it. That this one's word has
   * left may be known here only after the other end has heard it, and gone.
   */
  async #onChannelEnd(): Promise<void> {
    const hasSaid = await this.#ending?.then(() => true, () => false);
    if (!hasSaid || !this.hasEnded) return this.#onChannelLost();
    this.#closed.resolve(new StreamError("closed", "both ends have said all"));
  }

  #onChannelLost(cause?: unknown): void {
    const error = new StreamError("lost", this.#options.gone, { cause });
    this.#closed.resolve(error);
    this.#failReading(error);
    this.#writeController.error(error);
  }

  async #send(kind: MessageKind, body?: Uint8Array): Promise<void> {
    try {
      await this.#channel.send(kind, body);
    } catch (error) {
      ifGone(error);
      throw new StreamError("lost", this.#options.gone, { cause: error });
    }
  }

  async #sendError(kind: MessageKind, reason: unknown): Promise<void> {
    await this.#send(kind, encodeError(reason));
  }
}

const KINDS: readonly StreamErrorKind[] = ["closed", "reset", "refused", "lost"];

function encodeError(reason: unknown): Uint8Array {
  const { kind, message, code } = reason instanceof StreamError
    ? reason
    : new StreamError("reset", "the stream was given up");
  return new TextEncoder().encode(JSON.stringify({ kind, message, code: code?.toString() }));
}

function decodeError(message: ChannelMessage): StreamError {
  const { kind, message: text, code } = jsonOf(message);
  const known = KINDS.find((known) => known === kind);
  if (!known || typeof text !== "string") throw new ChannelError("an error that is none");
  return new StreamError(known, text, {
    code: typeof code === "string" && /^\d{1,20}$/.test(code) ? BigInt(code) : undefined,
  });
}
