/** Sums up what strangers do, so that they cannot push everything else out of the log. */

/**
 * Lines that strangers may cause at once, and interval at which they may cause one more. The log holds about
 * 2000 lines, so that strangers alone need two weeks to fill it.
 */
const BURST_LINES = 10, LINE_INTERVAL_MS = 10 * 60_000;

/** Tests pass others. */
export interface StrangerLogOptions {
  readonly burstLines: number;
  readonly lineIntervalMs: number;
  /** Returns the time in milliseconds. */
  readonly now: () => number;
}

/** Reports events of strangers: the first ones as they are, and the others as a sum. Dispose of it at the end. */
export class StrangerLog implements Disposable {
  #report: (message: string) => void;
  #options: StrangerLogOptions;
  /** Lines that may be reported now, as of {@linkcode #countedAt}. */
  #lines: number;
  #countedAt: number;
  #unreported = 0;
  #last = "";
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(report: (message: string) => void, options: Partial<StrangerLogOptions> = {}) {
    this.#report = report;
    this.#options = {
      burstLines: BURST_LINES,
      lineIntervalMs: LINE_INTERVAL_MS,
      now: () => performance.now(),
      ...options,
    };
    this.#lines = this.#options.burstLines;
    this.#countedAt = this.#options.now();
  }

  /** Reports an event, or counts it until a line may be reported again. */
  add(event: string): void {
    this.#unreported++;
    this.#last = event;
    this.#count();
    if (this.#lines >= 1) return this.#flush();
    const waitMs = (1 - this.#lines) * this.#options.lineIntervalMs;
    this.#timer ??= setTimeout(() => this.#flush(), waitMs);
    Deno.unrefTimer(this.#timer);
  }

  #count(): void {
    const { burstLines, lineIntervalMs, now } = this.#options, before = this.#countedAt;
    this.#countedAt = now();
    const more = (this.#countedAt - before) / lineIntervalMs;
    this.#lines = Math.min(burstLines, this.#lines + more);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#count();
    this.#lines = Math.max(0, this.#lines - 1);
    const sum = this.#unreported > 1 ? `${this.#unreported} events of strangers, the last: ` : "";
    this.#report(`${sum}${this.#last}`);
    this.#unreported = 0;
  }

  /** Reports what is left. */
  [Symbol.dispose](): void {
    if (this.#unreported > 0) this.#flush();
  }
}
