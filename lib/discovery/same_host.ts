/**
 * Finds a repository on this host, without relay and look-up. Its listener publishes a registration, the file
 * `KEY.json` in the user's runtime folder, and a dialer reads it.
 *
 * A registration is stale if the listener's process is gone. If the process is in another container, its state
 * cannot be seen, and the age of the file decides: a listener touches its file at an interval. One of another
 * host, which may share the folder, is ignored. A registration is only a hint, since the peer still has to
 * prove its key.
 */

import { join } from "node:path";
import { delay } from "../async/abort.ts";
import { ignoreNotFound, writeAtomically } from "../platform/atomic_file.ts";
import { readAtMost } from "../platform/regular_file.ts";
import { type HostId, parseHostId, thisHost, whereaboutsOf } from "../platform/host.ts";
import { isAlive } from "../platform/process_alive.ts";
import { ensureRuntimeFolder, runtimeFolders } from "../platform/runtime_folder.ts";
import { parseSocketAddress } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";

/** Interval at which a listener touches its registration. */
export const HEARTBEAT_INTERVAL_MS = 30_000;
/**
 * Interval between looks whether it is still there. The system removes the runtime folder when the user logs
 * out, and dialers must find the listener again within 30 s.
 */
const LOOK_INTERVAL_MS = 10_000;
/** Maximum age of a registration from another container: the listener may miss two heartbeats. */
const MAX_AGE_MS = 3 * HEARTBEAT_INTERVAL_MS;
/** Maximum size of a registration that is read. One with four addresses has 300 bytes. */
const MAX_FILE_BYTES = 4 * 1024;
/** Maximum number of addresses in a registration. A listener has one for each of its sockets. */
const MAX_ADDRESSES = 16;
/** Maximum number of files that a listener checks when it starts. */
const MAX_FILES = 1000;

interface Registration {
  /** Distinguishes the registration of a listener from that of its successor. */
  readonly id: string;
  readonly pid: number;
  /** Where `pid` holds. A container, or another host, may share the folder. */
  readonly host: HostId;
  readonly direct: readonly string[];
}

/** Options of {@linkcode LocalRegistration.publish}. */
export interface PublishOptions {
  /** Called if the file cannot be written at first. It is tried again from time to time. */
  readonly failed?: (error: unknown) => void;
  /** By default the user's runtime folder. */
  readonly folder?: string;
  /** By default {@linkcode LOOK_INTERVAL_MS}. */
  readonly lookIntervalMs?: number;
}

/** A listener's registration. Disposed of, it is removed. */
export class LocalRegistration implements AsyncDisposable {
  readonly #name: string;
  readonly #registration: Registration;
  readonly #folder: string | undefined;
  #path: string | undefined;
  #stopping = new AbortController();
  #keeping: Promise<void> = Promise.resolve();

  private constructor(name: string, registration: Registration, folder: string | undefined) {
    this.#name = name;
    this.#registration = registration;
    this.#folder = folder;
  }

  /**
   * Publishes a registration in place of an earlier listener's, and removes those of dead listeners. Never
   * throws.
   *
   * @param boundSockets Sockets that the endpoint is bound to, as `0.0.0.0:5` or `[::]:5`.
   */
  static async publish(
    publicKey: Uint8Array,
    boundSockets: readonly string[],
    options: PublishOptions = {},
  ): Promise<LocalRegistration> {
    const registration: Registration = {
      id: crypto.randomUUID(),
      pid: Deno.pid,
      host: thisHost(),
      direct: boundSockets.map((socket) =>
        socket.replace(/^0\.0\.0\.0:/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:")
      ),
    };
    const published = new LocalRegistration(fileName(publicKey), registration, options.folder);
    await published.#write().catch((error) => options.failed?.(error));
    published.#keeping = published.#keep(options.lookIntervalMs ?? LOOK_INTERVAL_MS);
    return published;
  }

  /** Looks at the file, once at a time: a write that is late would replace a later listener's. */
  async #keep(intervalMs: number): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await delay(intervalMs, signal).catch(() => {}); // it stops
      if (signal.aborted) return;
      // The next look tries again. Until then dialers on this host may need another route.
      await this.#look()
        .catch((error) => debug(() => `same host: cannot write ${this.#name}: ${error}`));
    }
  }

  /** Writes the file, perhaps in another folder than before. */
  async #write(): Promise<void> {
    const folder = this.#folder ?? await ensureRuntimeFolder();
    await removeStale(folder);
    const path = join(folder, this.#name);
    const content = JSON.stringify(this.#registration) + "\n";
    await writeAtomically(path, content, { mode: 0o600, ifPresent: "replace" });
    this.#path = path;
  }

  async #look(): Promise<void> {
    const present = this.#present();
    if (!present || !this.#path) return await this.#write(); // removed, as by a clean-up of the folder
    if (present.id !== this.#registration.id) return;
    const now = Date.now(), { mtime } = Deno.lstatSync(this.#path);
    const isDue = now - mtime!.getTime() >= HEARTBEAT_INTERVAL_MS;
    if (isDue) Deno.utimeSync(this.#path, new Date(now), new Date(now));
  }

  /** Reads the registration in the file, which may be that of a later listener. */
  #present(): Registration | undefined {
    try {
      return this.#path && readRegistration(this.#path) || undefined;
    } catch {
      return undefined; // the file is missing or damaged
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#keeping;
    if (!this.#path || this.#present()?.id !== this.#registration.id) return;
    await Deno.remove(this.#path).catch(ignoreNotFound);
  }
}

/**
 * Returns the addresses of a repository's listener on this host, or none if there is no such listener. Never
 * throws, since there are other routes to a peer.
 *
 * @param folders By default the user's runtime folders.
 */
export async function findOnSameHost(
  publicKey: Uint8Array,
  folders?: readonly string[],
): Promise<string[]> {
  const found: string[] = [];
  for (const folder of folders ?? runtimeFolders()) {
    const path = join(folder, fileName(publicKey));
    const registration = await liveRegistration(path).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) debug(() => `same host: ${path}: ${error}`);
    });
    if (registration) found.push(...registration.direct);
  }
  return found;
}

/**
 * Lists the registrations on this host, some of which may be stale. Never throws.
 *
 * @returns By public key in hex, text that differs for each listener.
 */
export function registrationsOnSameHost(folders = runtimeFolders()): Map<string, string> {
  const found = new Map<string, string>();
  for (const folder of folders) {
    try {
      for (const { name } of Deno.readDirSync(folder)) {
        const key = /^([0-9a-f]{64})\.json$/.exec(name)?.[1];
        if (key === undefined || found.size >= MAX_FILES) continue;
        found.set(key, `${found.get(key) ?? ""} ${Deno.lstatSync(join(folder, name)).ino}`);
      }
    } catch (error) {
      debug(() => `same host: ${folder}: ${error}`); // a listener may have removed a file just now
    }
  }
  return found;
}

function fileName(publicKey: Uint8Array): string {
  return `${publicKey.toHex()}.json`;
}

/** Removes what killed listeners have left, unfinished files, and what dial/absence_memory.ts no longer counts. */
async function removeStale(folder: string): Promise<void> {
  let checked = 0;
  for await (const { name } of Deno.readDir(folder)) {
    if (!/^([0-9a-f]{64}\.(json|away)|\.new-.*|socket-.*)$/.test(name) || ++checked > MAX_FILES) {
      continue;
    }
    const path = join(folder, name);
    try {
      const live = name.endsWith(".json") && await liveRegistration(path);
      if (!live && await isOld(path)) await Deno.remove(path);
    } catch (error) {
      debug(() => `same host: ${path}: ${error}`); // another listener may have removed it
    }
  }
}

/** Reads a registration, if its listener may be alive. Removes the file of a dead one. */
async function liveRegistration(path: string): Promise<Registration | undefined> {
  const registration = registrationIn(path);
  if (!registration) return undefined;
  switch (whereaboutsOf(registration.host)) {
    case "elsewhere":
      return undefined; // its addresses hold there alone
    case "container":
      // Its process cannot be seen. Otherwise the age does not count: after a machine has slept, each file
      // looks old.
      return await isOld(path) ? undefined : registration;
    case "here":
      if (await isAlive(registration.pid)) return registration;
  }
  await Deno.remove(path);
  return undefined;
}

/** Reads a registration. @returns Undefined if the file is none. */
function registrationIn(path: string): Registration | undefined {
  try {
    return readRegistration(path);
  } catch (error) {
    if (error instanceof NotARegistration) return undefined;
    throw error;
  }
}

async function isOld(path: string): Promise<boolean> {
  return Date.now() - (await Deno.lstat(path)).mtime!.getTime() > MAX_AGE_MS;
}

/** A file contains something else than a registration. */
class NotARegistration extends Error {}

function readRegistration(path: string): Registration {
  const { id, pid, host: writer, direct } = parse(readAtMost(path, MAX_FILE_BYTES));
  const host = parseHostId(writer);
  const isValid = typeof id === "string" && Number.isSafeInteger(pid) &&
    Array.isArray(direct) && direct.length <= MAX_ADDRESSES &&
    direct.every((address) => typeof address === "string" && parseSocketAddress(address));
  if (!isValid || !host) throw new NotARegistration("not a registration");
  return { id, pid: pid as number, host, direct };
}

function parse(bytes: Uint8Array): Partial<Record<keyof Registration, unknown>> {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    throw new NotARegistration("not JSON");
  }
}
