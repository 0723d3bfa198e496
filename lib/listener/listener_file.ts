/**
 * The repository's `listener` file: the latest listener has signed it. An earlier one sees that, and ends.
 * `status` and `doctor` read which process it is.
 */

import { join } from "node:path";
import { debug } from "../console/stderr.ts";
import { ignoreNotFound, readTextAtMost } from "../platform/atomic_file.ts";
import { HeldFile, readHeldFile } from "../platform/held_file.ts";
import { isAlive } from "../platform/process_alive.ts";
import type { Repository } from "../repository/repository.ts";

const MAX_FILE_BYTES = 256;

/** The signature of this process as the listener of a repository. Dispose of it when the listener has stopped. */
export class ListenerSignature implements AsyncDisposable {
  #text = `${Deno.pid} ${crypto.randomUUID()}\n`;
  #path: string;
  /** The file, held for as long as this process lives; undefined if it cannot be written. */
  #held: HeldFile | undefined;

  constructor(repository: Repository) {
    this.#path = signaturePath(repository);
  }

  /** Signs the file. Never rejects. */
  async sign(): Promise<void> {
    try {
      const held = await HeldFile.replace(this.#path, this.#text);
      this.#held?.[Symbol.dispose]();
      this.#held = held;
    } catch (error) {
      // Without a signature no later listener can take over. That is no reason to stop.
      debug(() => `cannot write ${this.#path}: ${error}`);
    }
  }

  /** Returns whose signature the file has. If it cannot be read, it counts as this process's. */
  latest(): "own" | "another" | "none" {
    try {
      return readTextAtMost(this.#path, MAX_FILE_BYTES) === this.#text ? "own" : "another";
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "none";
      debug(() => `cannot read ${this.#path}: ${error}`);
      return "own"; // an unreadable file is no reason to stop
    }
  }

  /** Lets go of the file, and removes it unless another listener has signed it. */
  async [Symbol.asyncDispose](): Promise<void> {
    using _held = this.#held;
    this.#held = undefined;
    if (this.latest() === "own") await Deno.remove(this.#path).catch(ignoreNotFound);
  }
}

/**
 * Returns the id of the process that serves a repository; undefined if none does.
 *
 * @throws What the system says.
 */
export async function runningListener(repository: Repository): Promise<number | undefined> {
  try {
    const { text, isHeld } = readHeldFile(signaturePath(repository), MAX_FILE_BYTES);
    const pid = Number(/^(\d+) /.exec(text)?.[1]);
    return pid > 0 && (isHeld ?? await isAlive(pid)) ? pid : undefined;
  } catch (error) {
    ignoreNotFound(error);
    return undefined;
  }
}

/** Returns the folder of a repository's listener: its log, its signature, and when peers were last seen. */
export function listenerFolder(repository: Repository): string {
  return join(repository.gitDir, "annex", "p2p-iroh");
}

function signaturePath(repository: Repository): string {
  return join(listenerFolder(repository), "listener");
}
