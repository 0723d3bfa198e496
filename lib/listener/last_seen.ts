/**
 * When peers were last there: a file `peers.json` beside the listener's log, for `status` also while no
 * listener runs.
 */

import { join } from "node:path";
import { readAtMost, writeAtomically } from "../platform/atomic_file.ts";
import { listenerFolder } from "./lifecycle.ts";
import type { Repository } from "../repository/repository.ts";
import { debug } from "../console/stderr.ts";

/** Peers that are remembered: those that were there last. */
const MOST_PEERS = 200;
const WRITE_AFTER_MS = 1_000;
const MAX_FILE_BYTES = 64 * 1024;

/** By public key, in hex, the time. */
export type LastSeen = ReadonlyMap<string, Date>;

/** Never throws: what cannot be read is not known. */
export async function readLastSeen(repository: Repository): Promise<LastSeen> {
  try {
    const bytes = await readAtMost(path(repository), MAX_FILE_BYTES);
    const entries = Object.entries(JSON.parse(new TextDecoder().decode(bytes)))
      .map(([key, time]) => [key, new Date(String(time))] as const)
      .filter(([key, time]) => /^[0-9a-f]{64}$/.test(key) && !Number.isNaN(time.getTime()));
    return new Map(entries.slice(0, MOST_PEERS));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) debug(() => `${path(repository)}: ${error}`);
    return new Map();
  }
}

/** Remembers. Dispose of it when the listener stops. */
export class LastSeenFile implements AsyncDisposable {
  #repository: Repository;
  #seen: Map<string, Date>;
  #timer: ReturnType<typeof setTimeout> | undefined;

  private constructor(repository: Repository, seen: LastSeen) {
    this.#repository = repository;
    this.#seen = new Map(seen);
  }

  static async open(repository: Repository): Promise<LastSeenFile> {
    return new LastSeenFile(repository, await readLastSeen(repository));
  }

  /** By public key. */
  of(key: string): Date | undefined {
    return this.#seen.get(key);
  }

  /** A peer was there until now. */
  note(key: string): void {
    this.#seen.delete(key); // so that it comes last
    this.#seen.set(key, new Date());
    // Many may come and go within a moment.
    this.#timer ??= setTimeout(() => this.#write(), WRITE_AFTER_MS);
  }

  /** Never throws: it is of no use to anything but `status`. */
  async #write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const latest = [...this.#seen].slice(-MOST_PEERS);
    this.#seen = new Map(latest);
    const content = JSON.stringify(Object.fromEntries(latest)) + "\n";
    try {
      await writeAtomically(path(this.#repository), content, { mode: 0o600, ifPresent: "replace" });
    } catch (error) {
      debug(() => `cannot write ${path(this.#repository)}: ${error}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#timer !== undefined) await this.#write();
  }
}

function path(repository: Repository): string {
  return join(listenerFolder(repository), "peers.json");
}
