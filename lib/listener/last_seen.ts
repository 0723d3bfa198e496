/**
 * Remembers when peers were last seen, in the file `peers.json` beside the listener's log. `status` reads
 * the file if no listener runs.
 */

import { join } from "node:path";
import { writeAtomically } from "../platform/atomic_file.ts";
import { readAtMost } from "../platform/regular_file.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import type { Repository } from "../repository/repository.ts";
import { debug } from "../console/stderr.ts";

/** Maximum peers in the file, those that were seen last: more than a repository has. */
const MAX_PEERS = 200;
/** Delay of a write after a peer has left, since many may leave at once. */
const WRITE_DELAY_MS = 1_000;
/** Maximum size of the file: about three times what `MAX_PEERS` peers take. */
const MAX_FILE_BYTES = 64 * 1024;

/** Times by public key in hex. */
export type LastSeen = ReadonlyMap<string, Date>;

/** Reads the file. Never throws: a file that cannot be read counts as empty. */
export function readLastSeen(repository: Repository): LastSeen {
  try {
    const bytes = readAtMost(path(repository), MAX_FILE_BYTES);
    const entries = Object.entries(JSON.parse(new TextDecoder().decode(bytes)))
      .map(([key, time]) => [key, new Date(String(time))] as const)
      .filter(([key, time]) => /^[0-9a-f]{64}$/.test(key) && !Number.isNaN(time.getTime()));
    return new Map(entries.slice(0, MAX_PEERS));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) debug(() => `${path(repository)}: ${error}`);
    return new Map();
  }
}

/** Writes the file. Dispose of it when the listener stops. */
export class LastSeenFile implements AsyncDisposable {
  #repository: Repository;
  #seen: Map<string, Date>;
  #writeDelayMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(repository: Repository, writeDelayMs: number = WRITE_DELAY_MS) {
    this.#repository = repository;
    this.#seen = new Map(readLastSeen(repository));
    this.#writeDelayMs = writeDelayMs;
  }

  /** Returns when a peer was last seen. @param key Its public key in hex. */
  of(key: string): Date | undefined {
    return this.#seen.get(key);
  }

  /** Notes that a peer was seen until now. */
  note(key: string): void {
    this.#seen.delete(key); // a map keeps the place of a key that it has
    this.#seen.set(key, new Date());
    this.#timer ??= setTimeout(() => this.#write(), this.#writeDelayMs);
  }

  /** Never throws: only `status` uses the file. */
  async #write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const latest = [...this.#seen].slice(-MAX_PEERS);
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
