/** What modules hand each other in place of iroh's or Deno's own stream types. */

/**
 * A byte stream with two directions that end independently of each other.
 *
 * - The end of `readable` is the end of what the other side sends; it can still receive.
 * - `writable.close()` says that this side sends no more (half-close), and resolves when
 *   everything written has been handed over.
 * - `readable` and `writable` fail with a {@linkcode StreamError} when the other side is gone.
 */
export interface Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array<ArrayBufferLike>>;
  /** Whoever has read a chunk may say that it is done with it, so that its memory is used again. */
  release?(chunk: Uint8Array<ArrayBuffer>): void;
}

/** How a stream ended, when not by its end-of-file. */
export type StreamErrorKind =
  /** The other side closed everything in an orderly way, and takes no more. */
  | "closed"
  /** The other side gave up this stream. */
  | "reset"
  /** The other side ended the stream or the connection with an error code and perhaps a reason. */
  | "refused"
  /** The other side has vanished. */
  | "lost";

/** The other side of a {@linkcode Duplex} is gone. */
export class StreamError extends Error {
  override readonly name = "StreamError";

  /** With "refused": the code that the other side gave, if it is known. */
  readonly code: bigint | undefined;

  constructor(
    readonly kind: StreamErrorKind,
    message: string,
    options: ErrorOptions & { readonly code?: bigint | undefined } = {},
  ) {
    super(message, options);
    this.code = options.code;
  }
}

/** Gives up both directions of a stream that nobody has taken, without a reason. */
export function giveUp(stream: Duplex): void {
  stream.readable.cancel().catch(() => {}); // the connection is gone, and the stream with it
  stream.writable.abort().catch(() => {}); // as above
}
