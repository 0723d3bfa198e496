/** Fetches from remotes in place of remotedaemon, which does not try again. */

import { debug } from "../console/stderr.ts";
import { fetchAgain } from "../repository/fetch.ts";

/** Maximum number of attempts. About one fetch in ten hangs. */
const ATTEMPTS = 3;
/**
 * Time without progress after which a fetch counts as hanging. A connection that is lost takes less: 25 seconds
 * until this program notices, and 20 to resume the transfer.
 */
const HUNG_MS = 60_000;

/** Fetches from remotes, until it is disposed of. */
export class Refetches implements AsyncDisposable {
  #folder: string;
  #onEnd: (remote: string, isSuccess: boolean) => void;
  /** Those in progress, by remote. */
  #running = new Map<string, Promise<void>>();
  #disposed = new AbortController();

  /** @param onEnd Called at the end of each; not if it is disposed of before. */
  constructor(folder: string, onEnd: (remote: string, isSuccess: boolean) => void) {
    this.#folder = folder;
    this.#onEnd = onEnd;
  }

  /** Fetches from a remote, unless that is in progress. */
  start(remote: string): void {
    if (this.#running.has(remote)) return;
    const { signal } = this.#disposed;
    const limits = { attempts: ATTEMPTS, hungMs: HUNG_MS };
    const running = fetchAgain(this.#folder, remote, signal, limits).then(
      ({ isSuccess }) => this.#onEnd(remote, isSuccess),
      (error) => debug(() => `git fetch ${remote}: ${error}`),
    ).finally(() => this.#running.delete(remote));
    this.#running.set(remote, running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed.abort();
    await Promise.all(this.#running.values());
  }
}
