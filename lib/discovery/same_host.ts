/**
 * Finding a repository on this host, with no relay and no look-up: its listener leaves an entry in
 * the user's runtime folder, `KEY.json`, and a dial looks there first.
 *
 * The entry of a listener that was killed is known by its process being gone, or, where that cannot
 * be seen, by its age: a listener touches its entry every {@linkcode HEARTBEAT_MS}. An entry is a
 * hint and no more: whoever answers at its addresses still has to prove the key.
 */

import { join } from "node:path";
import { ignoreNotFound, readAtMost, writeAtomically } from "../platform/atomic_file.ts";
import { isAlive } from "../platform/process_alive.ts";
import { ensureRuntimeFolder, runtimeFolders } from "../platform/runtime_folder.ts";
import { parseSocketAddress } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";

/** How often a listener says that it is there. */
export const HEARTBEAT_MS = 30_000;
/** In another container, an entry older than this is of a listener that was killed. */
const STALE_MS = 3 * HEARTBEAT_MS;
const MAX_FILE_BYTES = 4 * 1024;
const MOST_ADDRESSES = 16;
/** Entries looked at when cleaning up. */
const MOST_FILES = 1000;

interface Registration {
  /** Tells the entry of a listener from that of its successor. */
  readonly id: string;
  readonly pid: number;
  /** Process ids mean something only within it: a container may share the runtime folder. */
  readonly pidNamespace: string;
  readonly direct: readonly string[];
}

/** A listener's entry. Dispose of it when the listener stops. */
export class LocalRegistration implements AsyncDisposable {
  #path: string;
  #registration: Registration;
  #timer: ReturnType<typeof setInterval>;

  private constructor(path: string, registration: Registration) {
    this.#path = path;
    this.#registration = registration;
    this.#timer = setInterval(() => {
      // Tried again at the next beat; meanwhile peers on this host may have to take another way.
      this.#beat().catch((error) => debug(() => `same host: cannot touch ${path}: ${error}`));
    }, HEARTBEAT_MS);
  }

  /**
   * Leaves an entry, in place of that of an earlier listener, and clears away those of dead ones.
   *
   * @param boundSockets What the endpoint is bound to, as `0.0.0.0:5` or `[::]:5`.
   * @param folder The runtime folder, if not the user's own.
   * @throws {RuntimeFolderError} and what the system says, if it cannot be left.
   */
  static async publish(
    publicKey: Uint8Array,
    boundSockets: readonly string[],
    folder?: string,
  ): Promise<LocalRegistration> {
    folder ??= await ensureRuntimeFolder();
    await removeDead(folder);
    const registration: Registration = {
      id: crypto.randomUUID(),
      pid: Deno.pid,
      pidNamespace: await pidNamespace(),
      direct: boundSockets.map((socket) =>
        socket.replace(/^0\.0\.0\.0:/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:")
      ),
    };
    const published = new LocalRegistration(join(folder, fileName(publicKey)), registration);
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
    if (!present) await this.#write(); // somebody tidied up
    else if (present.id === this.#registration.id) await Deno.utime(this.#path, now, now);
  }

  /** The entry that is there now; a later listener's takes the place of this one. */
  async #present(): Promise<Registration | undefined> {
    return await readRegistration(this.#path).catch(() => undefined); // gone, or not an entry
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    if ((await this.#present())?.id !== this.#registration.id) return;
    await Deno.remove(this.#path).catch(ignoreNotFound);
  }
}

/**
 * Addresses at which the listener of a repository on this host can be reached; none if there is no
 * such listener. Never throws: there are other ways to a peer.
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

/** Clears away what listeners left that were killed, and what was never finished. */
async function removeDead(folder: string): Promise<void> {
  let looked = 0;
  for await (const { name } of Deno.readDir(folder)) {
    if (!/^([0-9a-f]{64}\.json|\.new-.*|socket-.*)$/.test(name) || ++looked > MOST_FILES) {
      continue;
    }
    const path = join(folder, name);
    try {
      const live = name.endsWith(".json") && await liveRegistration(path);
      if (!live && await isOld(path)) await Deno.remove(path);
    } catch (error) {
      debug(() => `same host: ${path}: ${error}`); // another listener may be clearing up, too
    }
  }
}

/** The entry in a file, if its listener is alive as far as can be known; that of a dead one goes. */
async function liveRegistration(path: string): Promise<Registration | undefined> {
  const registration = await readRegistration(path).catch((error) => {
    if (!(error instanceof NotARegistration)) throw error;
  });
  if (!registration) return undefined;
  // Not by its age where there is better: a machine that slept makes everything look old.
  if (registration.pidNamespace !== await pidNamespace()) {
    return await isOld(path) ? undefined : registration;
  }
  if (await isAlive(registration.pid)) return registration;
  await Deno.remove(path);
  return undefined;
}

async function isOld(path: string): Promise<boolean> {
  return Date.now() - (await Deno.lstat(path)).mtime!.getTime() > STALE_MS;
}

/** The file holds something else. */
class NotARegistration extends Error {}

async function readRegistration(path: string): Promise<Registration> {
  const bytes = await readAtMost(path, MAX_FILE_BYTES);
  const { id, pid, pidNamespace, direct } = parse(bytes);
  const right = typeof id === "string" && Number.isSafeInteger(pid) &&
    typeof pidNamespace === "string" && Array.isArray(direct) && direct.length <= MOST_ADDRESSES &&
    direct.every((address) => typeof address === "string" && parseSocketAddress(address));
  if (!right) throw new NotARegistration("not an entry");
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
  // Only Linux has them.
  return await Deno.readLink("/proc/self/ns/pid").catch(() => "");
}
