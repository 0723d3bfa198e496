/** Watches the git config of a repository, so that its processes need not run git to read it. */

import { systemReason } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { ConfigSnapshot } from "../repository/config_snapshot.ts";
import type { Repository } from "../repository/repository.ts";

/**
 * Minimum interval between attempts to read a config that only git can tell. An attempt runs git three times.
 * The config may be watched later, for example when a file of it has not just been written.
 */
const RETRY_INTERVAL_MS = 1_000;

/** The git config of a repository, as long as it does not change. */
export class WatchedConfig {
  #repository: Repository;
  #publish: () => Promise<void>;
  #snapshot: ConfigSnapshot | undefined;
  #reading: Promise<void> | undefined;
  #readAt = -Infinity;

  /** @param publish Called when {@linkcode known} has changed. */
  constructor(repository: Repository, publish: () => Promise<void>) {
    this.#repository = repository;
    this.#publish = publish;
  }

  /** Returns the config that was read last; undefined if only git can tell what it is. */
  get known(): ConfigSnapshot | undefined {
    return this.#snapshot;
  }

  /** Resolves when the config is not being read. */
  get settled(): Promise<void> {
    return this.#reading ?? Promise.resolve();
  }

  /**
   * Tells whether the config still holds on which a process relies. If it has changed, it is read again.
   *
   * @param id The id of what was published to the process; undefined if the process has asked git.
   */
  holds(id: string | undefined): boolean {
    const isCurrent = !this.#reading && this.#snapshot?.holds() === true;
    const isDue = performance.now() - this.#readAt >= RETRY_INTERVAL_MS;
    if (!isCurrent && (this.#snapshot || isDue)) this.read();
    return id === undefined || isCurrent && this.#snapshot?.id === id;
  }

  /** Reads the config and publishes it, once at a time. Never throws. */
  async read(): Promise<void> {
    await (this.#reading ??= this.#readOnce().finally(() => this.#reading = undefined));
  }

  async #readOnce(): Promise<void> {
    this.#readAt = performance.now();
    try {
      const before = this.#snapshot;
      this.#snapshot = await ConfigSnapshot.read(this.#repository);
      if (this.#snapshot || before) await this.#publish();
    } catch (error) {
      this.#snapshot = undefined; // processes ask git
      debug(() => `cannot watch the git config: ${systemReason(error)}`);
    }
  }
}
