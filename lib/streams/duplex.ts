/** Defines the stream type that modules pass to each other, in place of iroh's and Deno's types. */

/**
 * A byte stream whose two directions end independently.
 *
 * - `readable` ends when the other side has sent all its data. The other side can still receive.
 * - `writable.close()` tells the other side that all data was sent (half-close). It resolves when all data has
 *   been handed over.
 * - `readable` and `writable` fail with a {@linkcode StreamError} if the other side is gone.
 */
export interface Duplex {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array<ArrayBufferLike>>;
  /** Returns the memory of a chunk, which is then used again. The reader may call it when done with the chunk. */
  release?(chunk: Uint8Array<ArrayBuffer>): void;
}

/** How a stream ended before its end-of-file. */
export type StreamErrorKind =
  /** The other side closed the connection in an orderly way, and reads no further. */
  | "closed"
  /** The other side gave up this stream. */
  | "reset"
  /** The other side ended the stream or the connection with an error code and perhaps a reason. */
  | "refused"
  /** The other side no longer knows the connection: it took it for lost, or was restarted. */
  | "forgotten"
  /** The other side has vanished. */
  | "lost";

/** The other side of a {@linkcode Duplex} is gone. */
export class StreamError extends Error {
  override readonly name = "StreamError";

  /** The code that the other side gave, if it is known. Only "refused" has one. */
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

/** Gives up both directions of a stream that has no user. */
export function giveUp(stream: Duplex): void {
  // Each fails if the connection has ended, and with it the stream.
  stream.readable.cancel().catch(() => {});
  stream.writable.abort().catch(() => {});
}
