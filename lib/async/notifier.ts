/** Waiting for a change of state. */

/** Wakes those that wait for it. What has changed, each looks up by itself. */
export class Notifier {
  #next = Promise.withResolvers<void>();
  #isAwaited = false;

  /** Resolves at the next {@linkcode notify}. */
  next(): Promise<void> {
    this.#isAwaited = true;
    return this.#next.promise;
  }

  /** Wakes all that wait. */
  notify(): void {
    if (!this.#isAwaited) return;
    this.#isAwaited = false;
    this.#next.resolve();
    this.#next = Promise.withResolvers<void>();
  }
}
