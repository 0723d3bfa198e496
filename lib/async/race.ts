/** Runs attempts at the same time, of which the first to succeed wins. */

/** Attempts to get a `T`. Each attempt takes one route or several, which have names for people. */
export class Race<T> {
  /** The outcome of each route, for people. */
  readonly outcomes = new Map<string, string>();
  #winner = Promise.withResolvers<T>();
  /** Number of attempts in progress and of routes that are reserved, and 1 until {@linkcode seal}. */
  #pending = 1;
  #ended = new AbortController();
  #onLate: (late: T) => void;
  #onFailure: (error: unknown) => string;
  #lastError: unknown = new Error("there is no route");

  /**
   * @param onLate Called with the value of each attempt that succeeds after the race has ended.
   * @param onFailure Called with the error of each failed attempt. Returns the outcome, for people.
   */
  constructor(onLate: (late: T) => void, onFailure: (error: unknown) => string) {
    this.#onLate = onLate;
    this.#onFailure = onFailure;
    this.#winner.promise.catch(() => {}); // the caller that awaits it gets the error
  }

  /** Resolves to the first value. If all attempts fail, it rejects with the last error. */
  get winner(): Promise<T> {
    return this.#winner.promise;
  }

  /** Starts an attempt. Its signal is aborted when another attempt has won. */
  add(routes: readonly string[], attempt: (signal: AbortSignal) => Promise<T>): void {
    if (this.#ended.signal.aborted) return;
    this.#pending++;
    for (const route of routes) this.outcomes.set(route, "no answer");
    attempt(this.#ended.signal).then(
      (value) => {
        if (this.#ended.signal.aborted) return this.#onLate(value);
        this.#winner.resolve(value);
        this.#ended.abort(new Error("another route was faster"));
      },
      (error) => {
        if (this.#ended.signal.aborted) return;
        const outcome = this.#onFailure(error);
        for (const route of routes) this.outcomes.set(route, outcome);
        this.#close(error);
      },
    );
  }

  /**
   * Keeps the race open for an attempt on a route that may follow.
   *
   * @param otherwise Outcome of the route without an attempt.
   * @returns A function that ends the reservation.
   */
  reserve(route: string, otherwise: string): () => void {
    this.#pending++;
    this.outcomes.set(route, otherwise);
    let isOpen = true;
    return () => {
      if (isOpen) this.#close();
      isOpen = false;
    };
  }

  /** Lets the race end when no attempt and no reservation is left. Call it after the first attempts. */
  seal(): void {
    this.#close();
  }

  /** Ends the race with an error, unless an attempt has won. */
  giveUp(error: unknown): void {
    this.#winner.reject(error);
    this.#ended.abort(error);
  }

  #close(error?: unknown): void {
    if (error !== undefined) this.#lastError = error;
    if (--this.#pending === 0) this.giveUp(this.#lastError);
  }
}
