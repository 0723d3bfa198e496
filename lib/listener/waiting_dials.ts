/**
 * Limits the processes that wait until a peer is there. Each is a dial of git-annex's remotedaemon
 * (connect/peer_return.ts), and takes memory.
 */

import { LinkedSignal } from "../async/abort.ts";
import type { Presence } from "./presence.ts";

/** Maximum number. A waiting process may take 32 MB of its own. */
const MAX_WAITING = 8;

/** A process must not wait, or no longer. */
export class NotWaiting extends Error {
  override readonly name = "NotWaiting";
}

/** The dials that wait. */
export class WaitingDials {
  readonly #presence: Pick<Presence, "untilHere">;
  /** By remotedaemon and peer. */
  readonly #waiting = new Map<string, AbortController>();

  constructor(presence: Pick<Presence, "untilHere">) {
    this.#presence = presence;
  }

  /**
   * Resolves as soon as a peer is there. A newer dial of the same remotedaemon to the same peer ends the older.
   *
   * @param daemon Process id of the remotedaemon.
   * @param key Public key of the peer in hex.
   * @throws {NotWaiting} @throws {NoSuchRemote} @throws The signal's reason.
   */
  async wait(daemon: number, key: string, signal: AbortSignal): Promise<void> {
    const dial = `${daemon} ${key}`, ended = new AbortController();
    this.#waiting.get(dial)?.abort(new NotWaiting("a newer dial waits"));
    this.#waiting.delete(dial);
    if (this.#waiting.size >= MAX_WAITING) {
      throw new NotWaiting(`${MAX_WAITING} dials already wait`);
    }
    this.#waiting.set(dial, ended);
    using until = new LinkedSignal([signal, ended.signal]);
    try {
      await this.#presence.untilHere(key, until.signal);
    } finally {
      if (this.#waiting.get(dial) === ended) this.#waiting.delete(dial);
    }
  }
}
