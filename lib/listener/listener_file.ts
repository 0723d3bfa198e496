/**
 * The repository's `listener` file: the latest listener has signed it. An earlier one sees that, and ends.
 * `status` and `doctor` read which process it is.
 */

import { join } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { ignoreNotFound } from "../platform/atomic_file.ts";
import { NotRegular, readTextAtMost } from "../platform/regular_file.ts";
import { HeldFile, readHeldFile, type Reading } from "../platform/held_file.ts";
import { type HostId, parseHostId, thisHost, whereaboutsOf } from "../platform/host.ts";
import { isAlive } from "../platform/process_alive.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import type { Repository } from "../repository/repository.ts";

/** Maximum size of the file. The name of a host has at most 255 characters. */
const MAX_FILE_BYTES = 1024;

/** The signature of this process as the listener of a repository. Dispose of it when the listener has stopped. */
export class ListenerSignature implements AsyncDisposable {
  #text = JSON.stringify({ pid: Deno.pid, id: crypto.randomUUID(), host: thisHost() }) + "\n";
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

/** It cannot be found out whether a repository is served. */
export class ServingUnknown extends Failure {
  override readonly name = "ServingUnknown";
}

/** Where a repository is served: by a process of this host, or on another one or in another container. */
export type Serving = { readonly pid: number } | { readonly elsewhere: string };

/**
 * Tells where a repository is served; undefined if it is not served as far as is known. A process id that
 * another host has written is not returned.
 *
 * @throws {ServingUnknown} if the file cannot be read, for example since it is another user's.
 */
export async function servingOf(repository: Repository): Promise<Serving | undefined> {
  const reading = read(repository);
  const signature = reading && parse(reading.text);
  if (!signature) return undefined;
  const { pid, host } = signature, { isHeld } = reading;
  switch (whereaboutsOf(host)) {
    case "here":
      return isHeld ?? await isAlive(pid) ? { pid } : undefined;
    case "before": // or another host has the same name, and its lock is seen
      return isHeld ? { elsewhere: `${host.name}, another host of that name` } : undefined;
    case "container":
      return isHeld ?? true ? { elsewhere: `${host.name}, in another container` } : undefined;
    case "elsewhere":
      return { elsewhere: host.name }; // not all file systems show the locks of other hosts
  }
}

function read(repository: Repository): Reading | undefined {
  try {
    return readHeldFile(signaturePath(repository), MAX_FILE_BYTES);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new ServingUnknown(
      `cannot tell whether this repository is being served, ${systemReason(error)}`,
      {
        hint: error instanceof NotRegular
          ? `remove ${signaturePath(repository)}`
          : "ask as the user who owns its folder annex/p2p-iroh",
        cause: error,
      },
    );
  }
}

function parse(text: string): { pid: number; host: HostId } | undefined {
  try {
    const { pid, host: writer } = JSON.parse(text);
    const host = parseHostId(writer);
    return Number.isSafeInteger(pid) && pid > 0 && host ? { pid, host } : undefined;
  } catch {
    return undefined; // the file is damaged
  }
}

function signaturePath(repository: Repository): string {
  return join(listenerFolder(repository), "listener");
}
