/**
 * Messages and streams on the control socket, at both ends: the listener, and a process of its repository.
 *
 * docs/control-socket.md describes them. Both ends are of one version (locator.ts sees to that), so the
 * messages may change with each version.
 */

import { delay } from "../async/abort.ts";
import { closeQuietly, isClosedError } from "../platform/socket_errors.ts";
import { type Duplex, StreamError, type StreamErrorKind } from "../streams/duplex.ts";
import { ExactReader, UnexpectedEnd } from "../streams/exact_reader.ts";
import { MessageFormat } from "../streams/message_format.ts";

/** Kinds of messages. DATA and those after it belong to a stream. */
export const MessageKind = {
  /** Process: a {@linkcode Request} with the cookie. */
  REQUEST: 0,
  /** Listener: the request is valid, and an answer follows. */
  ACCEPTED: 1,
  /** Listener: a failure, in place of ANSWER. */
  FAILED: 2,
  /** Listener: the answer to the request. */
  ANSWER: 3,
  /** Bytes of the stream. */
  DATA: 4,
  /** The sender has sent all data. */
  END: 5,
  /** The sender gives up its direction, in place of END. */
  RESET: 6,
  /** The sender reads no further DATA. */
  STOP: 7,
  /** Listener: the connection with the peer has ended. */
  CLOSED: 8,
  /** Process: its progress. */
  REPORT: 9,
  /** Shows the sender, by an error, that the other end is gone. */
  KEEPALIVE: 10,
  /** Listener, in place of ACCEPTED: the git config is no longer what the locator says. */
  CONFIG_CHANGED: 11,
  /** Listener: what happens to an invitation. */
  EVENT: 12,
} as const;
export type MessageKind = typeof MessageKind[keyof typeof MessageKind];

/** A message that has come. */
export interface ChannelMessage {
  readonly kind: MessageKind;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Maximum length of a body: far more than an answer about many peers needs. */
const MAX_BODY_BYTES = 1 << 20;
/** Maximum data in one message: what a read of the stream gives at most. */
const MAX_DATA_BYTES = 64 * 1024;
/** Maximum data that waits to be read: as much as the socket's own buffers hold, about. */
const READ_AHEAD_BYTES = 256 * 1024;
/** Interval between looks for the other end while its messages are not read. */
const KEEPALIVE_INTERVAL_MS = 1_000;

const FORMAT = new MessageFormat(4);
const READ_BYTES = FORMAT.headerBytes + MAX_DATA_BYTES;

/** The other end breaks the protocol of the control socket. */
export class ChannelError extends Error {
  override readonly name = "ChannelError";
}

/** One end of a connection to the control socket. Dispose of it when done. */
export class Channel implements Disposable {
  #connection: Deno.UnixConn;
  #reader = new ExactReader((buffer) => this.#read(buffer), READ_BYTES);
  #sending: Promise<void> = Promise.resolve();

  constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
  }

  /** Sends a message. Calls may overlap. @throws What the system says if the other end is gone. */
  async send(kind: MessageKind, body: Uint8Array = new Uint8Array()): Promise<void> {
    const message = FORMAT.encode(kind, body);
    const sent = this.#sending.then(async () => {
      for (let rest = message; rest.length > 0;) {
        rest = rest.subarray(await this.#connection.write(rest));
      }
    });
    this.#sending = sent.catch(() => {}); // the caller of send() gets the error
    await sent;
  }

  /** Resolves when the socket has taken all messages, or has failed. */
  async flush(): Promise<void> {
    await this.#sending;
  }

  /** Sends a message whose body is JSON. @throws As {@linkcode send}. */
  async sendJson(kind: MessageKind, value: unknown): Promise<void> {
    await this.send(kind, new TextEncoder().encode(JSON.stringify(value)));
  }

  /**
   * Reads the next message. Its body is valid until the next call.
   *
   * @param maxBodyBytes Maximum length of the body.
   * @returns Undefined if the other end has closed the channel.
   * @throws {ChannelError} if the body is too long.
   * @throws {Deno.errors.ConnectionReset} if the other end left messages unread (Linux reports this).
   */
  async receive(maxBodyBytes: number = MAX_BODY_BYTES): Promise<ChannelMessage | undefined> {
    const header = await this.#readExactly(FORMAT.headerBytes);
    if (!header) return undefined;
    const { kind, length } = FORMAT.decodeHeader(header);
    if (length > maxBodyBytes) throw new ChannelError(`a message of ${length} bytes`);
    const body = await this.#readExactly(length);
    return body && { kind: kind as MessageKind, body };
  }

  /** Reads `length` bytes. @returns Undefined if the channel ends before. */
  async #readExactly(length: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    try {
      return await this.#reader.read(length);
    } catch (error) {
      if (error instanceof UnexpectedEnd) return undefined;
      throw error;
    }
  }

  async #read(buffer: Uint8Array): Promise<number | null> {
    try {
      return await this.#connection.read(buffer);
    } catch (error) {
      if (error instanceof Deno.errors.ConnectionReset) throw error;
      return ifGone(error);
    }
  }

  [Symbol.dispose](): void {
    closeQuietly(this.#connection);
  }
}

/** Returns the end of the stream if `error` says that the other end is gone; else throws the error. */
function ifGone(error: unknown): null {
  if (!isClosedError(error)) throw error;
  return null;
}

/** Reads the body of a message as a JSON object. @throws {ChannelError} if it is none. */
export function jsonOf({ body }: ChannelMessage): Record<string, unknown> {
  try {
    const value = JSON.parse(new TextDecoder().decode(body));
    if (value !== null && typeof value === "object") return value;
  } catch {
    // not JSON, which is the same error
  }
  throw new ChannelError("invalid JSON in a message");
}

/** How one end of a {@linkcode ProxiedStream} differs from the other. */
export interface ProxiedStreamOptions {
  /** Message of the error if the other end of the channel is gone. */
  readonly gone: string;
  /** Called with each REPORT. */
  readonly report?: (report: Record<string, unknown>) => void;
  /** Resolves when ANSWER has come, so that the stream may read. If it rejects, the stream is lost. */
  readonly begins?: Promise<unknown>;
}

/** A stream of a connection with a peer, passed through a channel. It is the same code at both ends. */
export class ProxiedStream implements Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
  /** Resolves when the connection with the peer, or the channel, has ended. */
  readonly closedError: Promise<StreamError>;
  /** True if the other end has sent END, after which it may exit. */
  hasEnded = false;
  #channel: Channel;
  #options: ProxiedStreamOptions;
  #closed = Promise.withResolvers<StreamError>();
  #readController!: ReadableByteStreamController;
  #writeController!: WritableStreamDefaultController;
  #isReadable = true;
  /** The sending of END. */
  #ending: Promise<void> | undefined;
  /** Resolves when the reader wants more, or reads no further. */
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
        for (let at = 0; at < chunk.length; at += MAX_DATA_BYTES) {
          await this.#send(MessageKind.DATA, chunk.subarray(at, at + MAX_DATA_BYTES));
        }
      },
      close: () => this.#ending = this.#send(MessageKind.END),
      abort: (reason) => this.#sendError(MessageKind.RESET, reason),
    });
    this.#run().then(() => this.#onChannelEnd(), (error) => this.#onChannelLost(error));
  }

  /** Tells the other end that the connection with the peer has ended. */
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
    // Meanwhile the channel is not read, so a read cannot tell that the other end is gone.
    while (this.#isReadable && this.#readController.desiredSize! <= 0) {
      const waiting = new AbortController();
      await Promise.race([this.#wanted.promise, delay(KEEPALIVE_INTERVAL_MS, waiting.signal)]);
      waiting.abort();
      // If the other end is gone, its last messages are still valid. #run() reads them, then the end.
      if (!await this.#channel.send(MessageKind.KEEPALIVE).then(() => true, () => false)) return;
    }
  }

  #endReading(): void {
    if (!this.#isReadable) return;
    this.#isReadable = false;
    this.#readController.close();
    this.#readController.byobRequest?.respond(0); // else a BYOB read never ends
  }

  #failReading(error: StreamError): void {
    if (this.#isReadable) this.#readController.error(error);
    this.#isReadable = false;
  }

  /**
   * Closes in an orderly way if both ends have sent END. The write of our END may resolve only after the
   * other end has read it and exited.
   */
  async #onChannelEnd(): Promise<void> {
    const hasSentEnd = await this.#ending?.then(() => true, () => false);
    if (!hasSentEnd || !this.hasEnded) return this.#onChannelLost();
    this.#closed.resolve(new StreamError("closed", "both ends have sent all data"));
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

const ERROR_KINDS: readonly StreamErrorKind[] = [
  "closed",
  "reset",
  "refused",
  "forgotten",
  "lost",
];

function encodeError(reason: unknown): Uint8Array {
  const { kind, message, code } = reason instanceof StreamError
    ? reason
    : new StreamError("reset", "the stream was given up");
  return new TextEncoder().encode(JSON.stringify({ kind, message, code: code?.toString() }));
}

function decodeError(message: ChannelMessage): StreamError {
  const { kind, message: text, code } = jsonOf(message);
  const known = ERROR_KINDS.find((known) => known === kind);
  if (!known || typeof text !== "string") throw new ChannelError("invalid error in a message");
  return new StreamError(known, text, {
    code: typeof code === "string" && /^\d{1,20}$/.test(code) ? BigInt(code) : undefined,
  });
}
