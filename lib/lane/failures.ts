/**
 * Remembers which lanes with a peer were lost lately, so that the next session does not lose the same lane
 * again. The memory is one file per peer in the user's runtime folder.
 */

import { join } from "node:path";
import { ensureRuntimeFolder, runtimeFolders } from "../platform/runtime_folder.ts";
import { readRuntimeJson, writeRuntimeJson } from "../platform/runtime_json.ts";
import { splitSocketAddress } from "../platform/socket_address.ts";
import type { Lane } from "./lane.ts";

/** Time for which a lost lane is not tried again. The path may be mended after it. */
const REMEMBERED_MS = 5 * 60_000;
/** Maximum lanes that are remembered for a peer. A peer seldom has more addresses. */
const MAX_FAILURES = 16;
/** Maximum length of a file that is read: more than {@linkcode MAX_FAILURES} take. */
const MAX_FILE_BYTES = 4_096;

/** A lane that was lost. */
interface LostLane {
  readonly kind: string;
  /** IP address of the other end. */
  readonly host: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}

/** The lanes with one peer that were lost lately. */
export class LaneFailures {
  #failures: readonly LostLane[];

  private constructor(failures: readonly LostLane[]) {
    this.#failures = failures;
  }

  /** Reads what is remembered of a peer. Never throws. @param peerKey The peer's public key in hex. */
  static load(peerKey: string, folders = runtimeFolders()): LaneFailures {
    const name = fileName(peerKey);
    for (const folder of folders) {
      const failures = read(join(folder, name));
      if (failures.length > 0) return new LaneFailures(failures);
    }
    return new LaneFailures([]);
  }

  /** Returns true if a lane of that kind with that host was lost lately. */
  has(kind: string, host: string): boolean {
    return this.#failures.some((failure) => failure.kind === kind && failure.host === host);
  }

  /** Remembers that a lane was lost. @throws The system's error if the file cannot be written. */
  static async note(
    peerKey: string,
    { kind, remote }: Pick<Lane, "kind" | "remote">,
    folder?: string,
  ): Promise<void> {
    folder ??= await ensureRuntimeFolder();
    const path = join(folder, fileName(peerKey)), { host } = splitSocketAddress(remote);
    const others = read(path).filter((failure) => failure.kind !== kind || failure.host !== host);
    const failures = [...others, { kind, host, at: Date.now() }].slice(-MAX_FAILURES);
    await writeRuntimeJson(path, failures);
  }
}

function read(path: string): LostLane[] {
  const value = readRuntimeJson(path, MAX_FILE_BYTES);
  return Array.isArray(value) ? value.filter(isFresh) : [];
}

function isFresh(value: unknown): value is LostLane {
  if (value === null || typeof value !== "object") return false;
  const { kind, host, at } = value as Record<string, unknown>;
  const age = typeof at === "number" ? Date.now() - at : Infinity;
  return typeof kind === "string" && typeof host === "string" && age >= 0 && age < REMEMBERED_MS;
}

function fileName(peerKey: string): string {
  return `${peerKey}.lanes`;
}
