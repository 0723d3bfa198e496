/** Limits the streams and sessions that a stranger has on one connection. A peer that was let in has no limit. */

import { abortable, LinkedSignal } from "../async/abort.ts";
import { Notifier } from "../async/notifier.ts";
import { MAX_STRANGER_SESSIONS } from "./mux.ts";

/**
 * Time for which a further session of a stranger waits for the peer to be let in, and for which each session of a
 * stranger counts at least. So a flood is slow.
 */
const STRANGER_WAIT_MS = 1_000;
/** Maximum number of a stranger's streams that are read at once. Others wait in iroh, where they cost little. */
const MAX_STRANGER_STREAMS = 2 * MAX_STRANGER_SESSIONS;

/** Counts what the peer has open on one connection. */
export class StrangerStreams {
  #isStranger: () => boolean;
  #waitMs: number;
  /** Number of streams that are no session yet. */
  #receiving = 0;
  #sessions = 0;
  /** Times until which sessions of a stranger count that have ended before, by the clock of `performance`. */
  #counted: number[] = [];
  #changed = new Notifier();

  /**
   * @param isStranger Returns whether the peer is still a stranger.
   * @param waitMs Time for which a session waits and counts, for tests.
   */
  constructor(isStranger: () => boolean, waitMs = STRANGER_WAIT_MS) {
    this.#isStranger = isStranger;
    this.#waitMs = waitMs;
  }

  /** Has those that wait look again, since the peer was let in. */
  onLetIn(): void {
    this.#changed.notify();
  }

  /** Waits while a stranger has many streams. @throws The signal's reason. */
  async awaitRoom(until: AbortSignal): Promise<void> {
    const isFull = () => this.#receiving + this.#sessions >= MAX_STRANGER_STREAMS;
    while (this.#isStranger() && isFull()) await abortable(this.#changed.next(), until);
  }

  /** Counts a stream until it has become a session, or is answered. @returns Ends that. */
  streamBegan(): () => void {
    this.#receiving++;
    return () => {
      this.#receiving--;
      this.#changed.notify();
    };
  }

  /** Waits until the peer may have another session, but not for long. Never rejects. */
  async awaitSessionRoom(until: AbortSignal): Promise<void> {
    using limit = new LinkedSignal([until], { milliseconds: this.#waitMs });
    while (this.hasMaxSessions && !limit.signal.aborted) {
      await abortable(this.#changed.next(), limit.signal).catch(() => {}); // time is up
    }
  }

  /** Counts a session, that of a stranger for a while at least. @returns Ends that. */
  sessionBegan(): () => void {
    this.#sessions++;
    const countsUntilMs = performance.now() + this.#waitMs;
    return () => {
      this.#sessions--;
      if (this.#isStranger()) this.#counted.push(countsUntilMs);
      this.#changed.notify();
    };
  }

  /** Whether the peer is a stranger that must not have another session now. */
  get hasMaxSessions(): boolean {
    if (!this.#isStranger()) return false;
    const now = performance.now();
    this.#counted = this.#counted.filter((untilMs) => untilMs > now);
    return this.#sessions + this.#counted.length >= MAX_STRANGER_SESSIONS;
  }
}
