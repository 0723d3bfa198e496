/** What was sent on a connection that may be dead, to be sent again on another one. */

/** Maximum bytes sent before a packet has come. They are buffered, so it bounds a session's memory. */
const MAX_UNANSWERED_BYTES = 64 * 1024;

/** The first bytes of a session, and perhaps its end. */
export class ReplayBuffer {
  /** Whether all has been sent, so that a replay ends the stream. */
  isEnded = false;
  #chunks: Uint8Array[] = [];
  #bytes = 0;

  /** Takes a copy of a chunk. @returns False if there is no room for it. */
  add(chunk: Uint8Array): boolean {
    if (this.#bytes + chunk.length > MAX_UNANSWERED_BYTES) return false;
    this.#chunks.push(chunk.slice());
    this.#bytes += chunk.length;
    return true;
  }

  /** Sends everything again. The end may still have to arrive. */
  async replay(writer: WritableStreamDefaultWriter<Uint8Array>): Promise<void> {
    for (const chunk of this.#chunks) await writer.write(chunk);
    if (this.isEnded) writer.close().catch(() => {}); // reads fail, too
  }

  /** Gives back its memory. */
  clear(): void {
    this.#chunks = [];
  }
}
