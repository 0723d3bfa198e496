/**
 * Bounds the memory that all strangers take together. iroh buffers what this program does not read: 1.25 MB for each
 * of 200 streams of a connection. It tells only how many bytes of packets have come.
 *
 * Packets with which iroh tries paths count too, since iroh does not tell them apart. A stranger therefore has no limit
 * of its own: an honest one with 240 network interfaces sent 740,000 bytes in 12 s, on a busy machine.
 */

import type { Connection } from "../iroh/connection.ts";
import { ProtocolError } from "../protocol/mux.ts";
import { closeReasonFor } from "./close_reasons.ts";

/** Maximum bytes of all strangers that git-annex has not taken. Most send less than 20,000 before it lets them in. */
const MAX_WAITING_BYTES = 20_000_000;
/** Interval between looks at the bytes of strangers. Each look costs one call of iroh for each. */
const LOOK_INTERVAL_MS = 100;

/** Limits of the memory. Tests pass smaller ones. */
export interface StrangerMemoryLimits {
  readonly maxWaitingBytes: number;
  readonly lookIntervalMs: number;
}

/** The limits that apply unless a test passes others. */
export const STRANGER_MEMORY_LIMITS: StrangerMemoryLimits = {
  maxWaitingBytes: MAX_WAITING_BYTES,
  lookIntervalMs: LOOK_INTERVAL_MS,
};

/** Counts the bytes of strangers. If they are too many, it closes the connection that has the most. */
export class StrangerMemory {
  #limits: StrangerMemoryLimits;
  #strangers = new Set<StrangerBytes>();
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(limits: Partial<StrangerMemoryLimits> = {}) {
    this.#limits = { ...STRANGER_MEMORY_LIMITS, ...limits };
  }

  /**
   * Counts the bytes of a stranger.
   *
   * @param onExceeded Called with the reason if the connection is closed because of its bytes.
   * @returns Dispose of it when the peer is admitted, or the connection has ended.
   */
  count(connection: Connection, onExceeded: (reason: ProtocolError) => void): StrangerBytes {
    const stranger = new StrangerBytes(connection, onExceeded, () => this.#forget(stranger));
    this.#strangers.add(stranger);
    this.#timer ??= setInterval(() => this.#look(), this.#limits.lookIntervalMs);
    return stranger;
  }

  #look(): void {
    const waiting = [...this.#strangers].map((stranger) => [stranger, stranger.waiting] as const);
    let total = waiting.reduce((sum, [, bytes]) => sum + bytes, 0);
    for (const [stranger, bytes] of waiting.sort(([, a], [, b]) => b - a)) {
      if (total <= this.#limits.maxWaitingBytes) return;
      total -= bytes;
      stranger.close();
    }
  }

  #forget(stranger: StrangerBytes): void {
    this.#strangers.delete(stranger);
    if (this.#strangers.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** The bytes of one stranger. */
export class StrangerBytes implements Disposable {
  #connection: Connection;
  #onExceeded: (reason: ProtocolError) => void;
  #forget: () => void;
  /** Returns how many bytes git-annex has taken, one function for each open session. */
  #taken = new Set<() => number>();
  /** Bytes that git-annex has taken from sessions that have ended. */
  #takenBefore = 0;

  constructor(
    connection: Connection,
    onExceeded: (reason: ProtocolError) => void,
    forget: () => void,
  ) {
    this.#connection = connection;
    this.#onExceeded = onExceeded;
    this.#forget = forget;
  }

  /** Number of bytes that have come and that git-annex has not taken. */
  get waiting(): number {
    const taken = this.#taken.values().reduce((sum, bytes) => sum + bytes(), this.#takenBefore);
    return this.#connection.packetBytesReceived - taken;
  }

  /**
   * Takes what git-annex has taken from a session out of the count: iroh no longer buffers it.
   *
   * @returns Dispose of it when the session has ended. A stranger may have thousands, one after another.
   */
  countOut(bytesTaken: () => number): Disposable {
    this.#taken.add(bytesTaken);
    return {
      [Symbol.dispose]: () => {
        if (this.#taken.delete(bytesTaken)) this.#takenBefore += bytesTaken();
      },
    };
  }

  /** Closes the connection. */
  close(): void {
    const reason = new ProtocolError("it sent too much before git-annex let it in");
    this.#connection.close(...closeReasonFor(reason));
    this[Symbol.dispose]();
    this.#onExceeded(reason);
  }

  [Symbol.dispose](): void {
    this.#taken.clear();
    this.#forget();
  }
}
