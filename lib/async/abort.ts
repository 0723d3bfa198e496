/** Waiting with a way out, for promises that have none of their own. */

/**
 * The outcome of `promise`, or a rejection with the signal's reason if that comes first.
 *
 * @param tooLate Called with what the promise resolves to when nobody waits for it any more, so
 * that whatever it holds can be closed.
 */
export function abortable<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  tooLate: (value: T) => void = () => {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    function abort(): void {
      reject(signal.reason);
      // The caller has its reason; how the abandoned promise fails no longer matters to anyone.
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

const TICK_MS = 10;
/** What one such tick counts for at most, however long it took. */
const MOST_TICK_MS = 12;

/**
 * Like {@linkcode delay}, of time in which this process ran: on a machine that has too much to do, or
 * that stood still, an answer may be there and not have been seen yet.
 */
export async function delayWhileRunning(milliseconds: number, signal: AbortSignal): Promise<void> {
  let before = performance.now();
  for (let left = milliseconds; left > 0;) {
    await delay(TICK_MS, signal);
    const now = performance.now();
    left -= Math.min(now - before, MOST_TICK_MS);
    before = now;
  }
}

/**
 * A limit to what somebody else does, by {@linkcode delayWhileRunning}: for a few at a time, since each looks at
 * the clock a hundred times a second. Disposed of, it is never reached.
 */
export class RunningTimeout implements Disposable {
  /** Aborted with the reason when it is reached, or with another signal's before. */
  readonly signal: AbortSignal;
  #disposed = new AbortController();

  /** @param signals Of which each ends it. */
  constructor(milliseconds: number, reason: Error, ...signals: readonly AbortSignal[]) {
    const reached = new AbortController();
    this.signal = AbortSignal.any([reached.signal, ...signals]);
    delayWhileRunning(milliseconds, this.#disposed.signal)
      .then(() => reached.abort(reason), () => {}); // disposed of
  }

  [Symbol.dispose](): void {
    this.#disposed.abort();
  }
}
