/** Notices that the peer of a connection has vanished, by the lack of packets. */

/**
 * Timeout for a packet of the peer. Both ends of a live connection send one every 5 s (iroh's heartbeat). iroh
 * itself gives up after 30 s, which is longer than users are promised.
 */
const SILENCE_TIMEOUT_MS = 25_000;
/** Interval between looks at all connections: short against the timeout, long enough to cost nothing. */
const CHECK_INTERVAL_MS = 2_500;

/** Limits, for tests. */
export interface SilenceWatchOptions {
  readonly timeoutMs?: number;
  readonly checkIntervalMs?: number;
}

/** A connection that is watched. Disposed of, it is not watched any longer. */
export interface Watched extends Disposable {
  /** Timeout for a packet of the peer. */
  timeoutMs: number;
  /** Time without a packet of the peer so far, in whole intervals between looks. */
  readonly silentMs: number;
}

interface WatchedConnection extends Omit<Watched, "silentMs"> {
  silentMs: number;
  readonly packetsReceived: () => number | bigint;
  readonly onSilence: () => void;
  last: number | bigint;
}

/** Watches many connections with one timer, since a listener may have many that are idle. */
export class SilenceWatch {
  /** Timeout for a packet of the peer. */
  readonly timeoutMs: number;
  readonly #checkIntervalMs: number;
  #watched = new Set<WatchedConnection>();
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor({
    timeoutMs = SILENCE_TIMEOUT_MS,
    checkIntervalMs = CHECK_INTERVAL_MS,
  }: SilenceWatchOptions = {}) {
    this.timeoutMs = timeoutMs;
    this.#checkIntervalMs = checkIntervalMs;
  }

  /** Calls `onSilence` when `packetsReceived` has not changed for the timeout, until disposed of. */
  watch(packetsReceived: () => number | bigint, onSilence: () => void): Watched {
    const { timeoutMs } = this;
    const watched: WatchedConnection = {
      timeoutMs,
      packetsReceived,
      onSilence,
      last: -1,
      silentMs: 0,
      [Symbol.dispose]: () => {
        this.#watched.delete(watched);
        if (this.#watched.size > 0) return;
        clearInterval(this.#timer);
        this.#timer = undefined;
      },
    };
    this.#watched.add(watched);
    this.#timer ??= setInterval(() => this.#check(), this.#checkIntervalMs);
    return watched;
  }

  #check(): void {
    for (const watched of this.#watched) {
      const now = watched.packetsReceived();
      // Counted in checks, not by the clock: a machine that slept has not heard its peers, either.
      watched.silentMs = now === watched.last ? watched.silentMs + this.#checkIntervalMs : 0;
      watched.last = now;
      if (watched.silentMs >= watched.timeoutMs) watched.onSilence();
    }
  }
}
