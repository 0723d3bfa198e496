/** The carrier with which each session begins: a stream of iroh's connection. */

import type { Duplex } from "../streams/duplex.ts";
import type { Carrier } from "./carrier.ts";

/** A stream of iroh's connection as a carrier. If it ends, the session ends. */
export class HomeCarrier implements Carrier {
  #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  #writer: WritableStreamDefaultWriter<Uint8Array>;
  #isFinished = false;
  #hasPeerFinished = false;

  constructor(stream: Duplex) {
    this.#reader = stream.readable.getReader();
    this.#writer = stream.writable.getWriter();
    this.#writer.closed.catch(() => {}); // writes fail with the same error
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const { value, done } = await this.#reader.read();
    this.#hasPeerFinished ||= done;
    return value;
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#writer.write(bytes);
  }

  /**
   * Ends the writing direction in order.
   *
   * @returns When the other end's machine has everything.
   * @throws {StreamError} if the connection is lost before that.
   */
  async finish(): Promise<void> {
    this.#isFinished = true;
    await this.#writer.close().catch(async (error) => {
      await this.#writer.closed; // rejects with the cause, if the stream failed just before
      throw error;
    });
  }

  /** Resets both directions. @param reason Its code is sent along. */
  async abort(reason: unknown): Promise<void> {
    await Promise.allSettled([this.#writer.abort(reason), this.#reader.cancel(reason)]);
  }

  /** @param reason Its code is sent along, if it has one. */
  close(reason?: Error): void {
    if (!this.#isFinished) this.#writer.abort(reason).catch(() => {}); // the stream has ended already
    if (!this.#hasPeerFinished) this.#reader.cancel(reason).catch(() => {}); // the stream has ended already
  }
}
