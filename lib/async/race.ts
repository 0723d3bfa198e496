/** Attempts side by side, of which the first that gets through wins. */

/** Attempts to get a thing of type `T`. Each goes by a way, or several, that have names for people. */
export class Race<T> {
  /** What came of each way that has not got through. */
  readonly outcomes = new Map<string, string>();
  #winner = Promise.withResolvers<T>();
  /** Attempts that are under way, and ways on which there may yet be one. */
  #pending = 1;
  #ended = new AbortController();
  #onLate: (late: T) => void;
  #onFailure: (error: unknown) => string;
  #lastError: unknown = new Error("there is no way");

  /**
   * @param onLate Told of what has got through after another.
   * @param onFailure Told why an attempt failed; says it for people.
   */
  constructor(onLate: (late: T) => void, onFailure: (error: unknown) => string) {
    this.#onLate = onLate;
    this.#onFailure = onFailure;
    this.#winner.promise.catch(() => {}); // told to whoever awaits it
  }

  /** What got through first. Rejects as the last attempt did, if none has. */
  get winner(): Promise<T> {
    return this.#winner.promise;
  }

  /** An attempt. Its signal is aborted when another has won. */
  add(routes: readonly string[], attempt: (signal: AbortSignal) => Promise<T>): void {
    if (this.#ended.signal.aborted) return;
    this.#pending++;
    for (const route of routes) this.outcomes.set(route, "no answer");
    attempt(this.#ended.signal).then(
      (value) => {
        if (this.#ended.signal.aborted) return this.#onLate(value);
        this.#winner.resolve(value);
        this.#ended.abort(new Error("another way was faster"));
      },
      (error) => {
        if (this.#ended.signal.aborted) return;
        const outcome = this.#onFailure(error);
        for (const route of routes) this.outcomes.set(route, outcome);
        this.#close(error);
      },
    );
  }

  /** There may yet be an attempt on a way, until what is returned is called. */
  reserve(route: string, otherwise: string): () => void {
    this.#pending++;
    this.outcomes.set(route, otherwise);
    let isOpen = true;
    return () => {
      if (isOpen) this.#close();
      isOpen = false;
    };
  }

  /** To be called when all that is known from the start has been entered. */
  seal(): void {
    this.#close();
  }

  /** Ends it: no attempt can get through. */
  giveUp(error: unknown): void {
    this.#winner.reject(error);
    this.#ended.abort(error);
  }

  #close(error?: unknown): void {
    if (error !== undefined) this.#lastError = error;
    if (--this.#pending === 0) this.giveUp(this.#lastError);
  }
}
