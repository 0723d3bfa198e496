/** Attempts side by side, of which the first that gets through wins. */

/** Attempts to get a thing of type `T`. Each goes by a way, or several, that have names for people. */
export class Race<T> {
  /** What came of each way that has not got through. */
  readonly outcomes = new Map<string, string>();
  #winner = Promise.withResolvers<T>();
  /** Attempts that are under way, and ways on which there may yet be one. */
  #open = 1;
  #over = new AbortController();
  #lost: (late: T) => void;
  #failed: (error: unknown) => string;
  #lastError: unknown = new Error("there is no way");

  /**
   * @param lost Told of what has got through after another.
   * @param failed Told why an attempt failed; says it for people.
   */
  constructor(lost: (late: T) => void, failed: (error: unknown) => string) {
    this.#lost = lost;
    this.#failed = failed;
    this.#winner.promise.catch(() => {}); // told to whoever awaits `over`
  }

  /** What got through first. Rejects as the last attempt did, if none has. */
  get over(): Promise<T> {
    return this.#winner.promise;
  }

  /** An attempt. Its signal is aborted when another has won. */
  enter(ways: readonly string[], attempt: (signal: AbortSignal) => Promise<T>): void {
    if (this.#over.signal.aborted) return;
    this.#open++;
    for (const way of ways) this.outcomes.set(way, "no answer");
    attempt(this.#over.signal).then(
      (value) => {
        if (this.#over.signal.aborted) return this.#lost(value);
        this.#winner.resolve(value);
        this.#over.abort(new Error("another way was faster"));
      },
      (error) => {
        if (this.#over.signal.aborted) return;
        const outcome = this.#failed(error);
        for (const way of ways) this.outcomes.set(way, outcome);
        this.#close(error);
      },
    );
  }

  /** There may yet be an attempt on a way, until what is returned is called. */
  expect(way: string, otherwise: string): () => void {
    this.#open++;
    this.outcomes.set(way, otherwise);
    let open = true;
    return () => {
      if (open) this.#close();
      open = false;
    };
  }

  /** To be called when all that is known from the start has been entered. */
  start(): void {
    this.#close();
  }

  /** Ends it: no attempt can get through. */
  giveUp(error: unknown): void {
    this.#winner.reject(error);
    this.#over.abort(error);
  }

  #close(error?: unknown): void {
    if (error !== undefined) this.#lastError = error;
    if (--this.#open === 0) this.giveUp(this.#lastError);
  }
}
