/** The streams of a connection, as {@linkcode Duplex}. */

import type * as Iroh from "@number0/iroh";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { IrohBytes } from "./bytes.ts";
import { type ConnectionEnd, connectionEndError, streamError } from "./errors.ts";

/**
 * Maximum bytes in one call of iroh-js. Arrays of numbers are slow, so that longer ones would hold up the
 * thread; Uint8Array is cheap.
 */
const CALL_BYTES = 32 * 1024, NATIVE_CALL_BYTES = 256 * 1024;

/**
 * Maximum bytes in the first read of a stream. iroh-js allocates them before anything comes, and a stranger may open
 * a hundred streams. After a read that is full, the next one is larger.
 */
const FIRST_CALL_BYTES = 1024, CALL_GROWTH = 32;

/** Maximum bytes that get an array of their own: to change the length of a large one costs more. */
const MAX_FRESH_BYTES = 1024;
/**
 * Used for all longer pieces that are written, since an array takes eight times the memory of its bytes. iroh-js
 * has read it when the call returns.
 */
const memory: number[] = [];

/** Turns iroh-js's streams of one connection into {@linkcode Duplex}, and their errors into types. */
export class ConnectionStreams {
  readonly #bytes: IrohBytes;
  readonly #callBytes: number;
  readonly #closed: Promise<ConnectionEnd>;
  /** Fails each direction that is being written, when the connection ends. */
  readonly #writing = new Set<(error: StreamError) => void>();

  /** @param closed Resolves when the connection has ended. */
  constructor(bytes: IrohBytes, closed: Promise<ConnectionEnd>) {
    this.#bytes = bytes;
    this.#callBytes = bytes.isNative ? NATIVE_CALL_BYTES : CALL_BYTES;
    this.#closed = closed;
    closed.then((end) => {
      for (const fail of this.#writing) fail(connectionEndError(end));
    });
  }

  /** Waits for a call of iroh-js. @throws {StreamError} if the call fails. */
  async result<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      throw await this.#streamError(error);
    }
  }

  /** Returns one of iroh-js's streams as ours. */
  duplex(stream: Iroh.BiStream): Duplex {
    return { readable: this.#readable(stream.recv), writable: this.#writable(stream.send) };
  }

  async #streamError(error: unknown): Promise<StreamError> {
    return streamError(error) ?? connectionEndError(await this.#closed);
  }

  #readable(receive: Iroh.RecvStream): ReadableStream<Uint8Array<ArrayBuffer>> {
    let callBytes = FIRST_CALL_BYTES;
    return new ReadableStream({
      type: "bytes",
      pull: async (controller) => {
        const chunk = this.#bytes.from(await this.result(receive.read(callBytes)));
        if (chunk.length === callBytes) {
          callBytes = Math.min(callBytes * CALL_GROWTH, this.#callBytes);
        }
        if (chunk.length > 0) return controller.enqueue(chunk);
        controller.close();
        controller.byobRequest?.respond(0); // else a read into the caller's buffer never ends
      },
      cancel: (reason) => {
        // Not awaited: a read that is under way holds iroh-js's stream.
        receive.stop(abortCode(reason)).catch(() => {}); // fails if the connection has ended
      },
    });
  }

  #writable(send: Iroh.SendStream): WritableStream<Uint8Array> {
    let done = () => {};
    return new WritableStream({
      start: (controller) => {
        const fail = (error: StreamError) => controller.error(error);
        this.#writing.add(fail);
        done = () => void this.#writing.delete(fail);
      },
      write: async (chunk) => {
        try {
          for (let i = 0; i < chunk.length; i += this.#callBytes) {
            const part = chunk.subarray(i, i + this.#callBytes);
            await this.result(
              send.writeAll(this.#bytes.to(part, part.length > MAX_FRESH_BYTES ? memory : [])),
            );
          }
        } catch (error) {
          done();
          send.reset(0n).catch(() => {}); // fails if the connection has ended
          throw error;
        }
      },
      close: async () => {
        try {
          await this.result(send.finish());
          await this.result(send.stopped()); // the peer's QUIC stack has acknowledged everything
        } catch (error) {
          // The peer had all it wanted, and closed the connection in an orderly way.
          if (!(error instanceof StreamError) || error.kind !== "closed") throw error;
        } finally {
          done();
        }
      },
      abort: (reason) => {
        done();
        send.reset(abortCode(reason)).catch(() => {}); // fails if the connection has ended
      },
    });
  }
}

/** Returns the code that tells the peer why a stream is given up. */
function abortCode(reason: unknown): bigint {
  return reason instanceof StreamError ? reason.code ?? 0n : 0n;
}
