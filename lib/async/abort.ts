/** Waits for promises and times until a signal aborts. */

/**
 * Settles like `promise`, or rejects with the signal's reason if that comes first.
 *
 * @param tooLate Called with the promise's value if it resolves after the signal, for example to close it.
 */
export function abortable<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  tooLate: (value: T) => void = () => {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    function abort(): void {
      reject(signal.reason);
      // The caller has the reason. An error of the abandoned promise no longer matters.
      promise.then(tooLate, () => {});
    }
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** Resolves after `milliseconds`, or rejects with the signal's reason if that comes first. */
export function delay(milliseconds: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  return abortable(promise, signal).finally(() => clearTimeout(timer));
}

/**
 * A signal that aborts with the first of other signals, or after a time, until it is disposed of. After
 * `AbortSignal.any` something stays in the memory of each signal, which grows if that one lives for days.
 */
export class LinkedSignal implements Disposable {
  #controller = new AbortController();
  #others: readonly AbortSignal[];
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param others Signals that abort it. @param timeout After which time, and with which reason, it aborts by itself. */
  constructor(
    others: readonly AbortSignal[],
    timeout?: { readonly milliseconds: number; readonly reason?: unknown },
  ) {
    this.#others = others;
    const aborted = others.find((other) => other.aborted);
    if (aborted) this.#controller.abort(aborted.reason);
    else for (const other of others) other.addEventListener("abort", this.#onAbort);
    if (aborted || !timeout) return;
    const { milliseconds, reason = new DOMException("Signal timed out.", "TimeoutError") } =
      timeout;
    this.#timer = setTimeout(() => this.#abort(reason), milliseconds);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  #onAbort = (event: Event): void => this.#abort((event.target as AbortSignal).reason);

  #abort(reason: unknown): void {
    this[Symbol.dispose]();
    this.#controller.abort(reason);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const other of this.#others) other.removeEventListener("abort", this.#onAbort);
  }
}

/** Interval between looks at the clock: short against the timeouts, which are 100 ms and more. */
const TICK_MS = 10;
/** Maximum time that one tick counts for by default, however long it took: a tick of an idle machine. */
const MAX_TICK_MS = 12;

/** A time in which this process runs. */
export interface RunningTime {
  readonly milliseconds: number;
  /** Maximum time that one tick counts for, where the wait may be little longer on a busy machine. */
  readonly maxTickMs: number;
}

/**
 * Resolves like {@linkcode delay}, but counts only time in which this process ran. While a machine is overloaded or
 * suspended, an answer may have arrived that this process has not read yet.
 */
export async function delayWhileRunning(
  time: number | RunningTime,
  signal: AbortSignal,
): Promise<void> {
  const { milliseconds, maxTickMs } = typeof time === "number"
    ? { milliseconds: time, maxTickMs: MAX_TICK_MS }
    : time;
  let before = performance.now();
  for (let left = milliseconds; left > 0;) {
    await delay(TICK_MS, signal);
    const now = performance.now();
    left -= Math.min(now - before, maxTickMs);
    before = now;
  }
}

/**
 * A timeout that counts only time in which this process ran ({@linkcode delayWhileRunning}). Have only a few at a
 * time, since each looks at the clock 100 times a second. Once disposed of, it never expires.
 */
export class RunningTimeout implements Disposable {
  /** Aborted with the reason when the timeout expires, or with the reason of another signal before. */
  readonly signal: AbortSignal;
  #disposed = new AbortController();
  #linked: LinkedSignal;

  /** @param reason What {@linkcode signal} is aborted with. @param signals Other signals that abort it. */
  constructor(time: number | RunningTime, reason: Error, ...signals: readonly AbortSignal[]) {
    const expired = new AbortController();
    this.#linked = new LinkedSignal([expired.signal, ...signals]);
    this.signal = this.#linked.signal;
    delayWhileRunning(time, this.#disposed.signal)
      .then(() => expired.abort(reason), () => {}); // disposed of before
  }

  [Symbol.dispose](): void {
    this.#linked[Symbol.dispose]();
    this.#disposed.abort();
  }
}
