/**
 * Finds a repository on this host, without relay and look-up. Its listener publishes a registration, the file
 * `KEY.json` in the user's runtime folder, and a dialer reads it.
 *
 * A registration is stale if the listener's process is gone. If the process is in another container, its state
 * cannot be seen, and the age of the file decides: a listener touches its file at an interval. A registration
 * is only a hint, since the peer still has to prove its key.
 */

import { join } from "node:path";
import { ignoreNotFound, readAtMost, writeAtomically } from "../platform/atomic_file.ts";
import { isAlive } from "../platform/process_alive.ts";
import { ensureRuntimeFolder, runtimeFolders } from "../platform/runtime_folder.ts";
import { parseSocketAddress } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";

/** Interval at which a listener touches its registration. */
export const HEARTBEAT_INTERVAL_MS = 30_000;
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
  /** The namespace of `pid`. A container has another one, and may share the runtime folder. */
  readonly pidNamespace: string;
  readonly direct: readonly string[];
}

/** Options of {@linkcode LocalRegistration.publish}. */
export interface PublishOptions {
  /** By default the user's runtime folder. */
  readonly folder?: string;
  /** By default {@linkcode HEARTBEAT_INTERVAL_MS}. */
  readonly heartbeatIntervalMs?: number;
}

/** A listener's registration. Disposed of, it is removed. */
export class LocalRegistration implements AsyncDisposable {
  #path: string;
  #registration: Registration;
  #timer: ReturnType<typeof setInterval>;

  private constructor(path: string, registration: Registration, heartbeatIntervalMs: number) {
    this.#path = path;
    this.#registration = registration;
    this.#timer = setInterval(() => {
      // The next heartbeat tries again. Until then dialers on this host may need another route.
      this.#beat().catch((error) => debug(() => `same host: cannot touch ${path}: ${error}`));
    }, heartbeatIntervalMs);
  }

  /**
   * Publishes a registration in place of an earlier listener's, and removes those of dead listeners.
   *
   * @param boundSockets Sockets that the endpoint is bound to, as `0.0.0.0:5` or `[::]:5`.
   * @throws {RuntimeFolderError} if there is no folder for it, or the system's error if it cannot be written.
   */
  static async publish(
    publicKey: Uint8Array,
    boundSockets: readonly string[],
    { folder, heartbeatIntervalMs = HEARTBEAT_INTERVAL_MS }: PublishOptions = {},
  ): Promise<LocalRegistration> {
    folder ??= await ensureRuntimeFolder();
    await removeStale(folder);
    const registration: Registration = {
      id: crypto.randomUUID(),
      pid: Deno.pid,
      pidNamespace: await pidNamespace(),
      direct: boundSockets.map((socket) =>
        socket.replace(/^0\.0\.0\.0:/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:")
      ),
    };
    const path = join(folder, fileName(publicKey));
    const published = new LocalRegistration(path, registration, heartbeatIntervalMs);
    try {
      await published.#write();
      return published;
    } catch (error) {
      clearInterval(published.#timer);
      throw error;
    }
  }

  async #write(): Promise<void> {
    const content = JSON.stringify(this.#registration) + "\n";
    await writeAtomically(this.#path, content, { mode: 0o600, ifPresent: "replace" });
  }

  async #beat(): Promise<void> {
    const present = await this.#present();
    const now = new Date();
    if (!present) await this.#write(); // removed, as by a clean-up of the folder
    else if (present.id === this.#registration.id) await Deno.utime(this.#path, now, now);
  }

  /** Reads the registration in the file, which may be that of a later listener. */
  async #present(): Promise<Registration | undefined> {
    return await readRegistration(this.#path).catch(() => undefined); // the file is missing or damaged
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    if ((await this.#present())?.id !== this.#registration.id) return;
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

function fileName(publicKey: Uint8Array): string {
  return `${publicKey.toHex()}.json`;
}

/** Removes what killed listeners have left: registrations, unfinished files, and old sockets. */
async function removeStale(folder: string): Promise<void> {
  let checked = 0;
  for await (const { name } of Deno.readDir(folder)) {
    if (!/^([0-9a-f]{64}\.json|\.new-.*|socket-.*)$/.test(name) || ++checked > MAX_FILES) {
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
  const registration = await readRegistration(path).catch((error) => {
    if (!(error instanceof NotARegistration)) throw error;
  });
  if (!registration) return undefined;
  // The age decides only where the process cannot be seen: after a machine has slept, every file looks old.
  if (registration.pidNamespace !== await pidNamespace()) {
    return await isOld(path) ? undefined : registration;
  }
  if (await isAlive(registration.pid)) return registration;
  await Deno.remove(path);
  return undefined;
}

async function isOld(path: string): Promise<boolean> {
  return Date.now() - (await Deno.lstat(path)).mtime!.getTime() > MAX_AGE_MS;
}

/** A file contains something else than a registration. */
class NotARegistration extends Error {}

async function readRegistration(path: string): Promise<Registration> {
  const bytes = await readAtMost(path, MAX_FILE_BYTES);
  const { id, pid, pidNamespace, direct } = parse(bytes);
  const isValid = typeof id === "string" && Number.isSafeInteger(pid) &&
    typeof pidNamespace === "string" && Array.isArray(direct) && direct.length <= MAX_ADDRESSES &&
    direct.every((address) => typeof address === "string" && parseSocketAddress(address));
  if (!isValid) throw new NotARegistration("not a registration");
  return { id, pid: pid as number, pidNamespace, direct };
}

function parse(bytes: Uint8Array): Partial<Record<keyof Registration, unknown>> {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    throw new NotARegistration("not JSON");
  }
}

async function pidNamespace(): Promise<string> {
  return await Deno.readLink("/proc/self/ns/pid").catch(() => ""); // only Linux has namespaces
}
