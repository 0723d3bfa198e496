/** Sums up refusals, so that strangers cannot push everything else out of the log. */

/** Interval between two lines. A flood cannot fill the log file, of about a thousand lines, in minutes. */
const REPORT_INTERVAL_MS = 1_000;

/** Tests pass others. */
export interface RefusalLogOptions {
  readonly intervalMs: number;
  /** Returns the time in milliseconds. */
  readonly now: () => number;
}

/** Reports refusals, at most one line an interval. */
export class RefusalLog {
  #report: (message: string) => void;
  #options: RefusalLogOptions;
  #unreported = 0;
  #reportedAt = -Infinity;

  constructor(report: (message: string) => void, options: Partial<RefusalLogOptions> = {}) {
    this.#report = report;
    this.#options = {
      intervalMs: REPORT_INTERVAL_MS,
      now: () => performance.now(),
      ...options,
    };
  }

  /** Counts a refusal, and reports all since the last line if the interval is over. */
  add(source: string, reason: string): void {
    this.#unreported++;
    const now = this.#options.now();
    if (now - this.#reportedAt < this.#options.intervalMs) return;
    this.#report(`refused ${this.#unreported}, the last from ${source}: ${reason}`);
    this.#unreported = 0;
    this.#reportedAt = now;
  }
}
