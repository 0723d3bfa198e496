/**
 * Finding a repository on this host, with no relay and no look-up: its listener leaves an entry in
 * the user's runtime folder, `KEY.json`, and a dial looks there first.
 *
 * An entry is rewritten every {@linkcode HEARTBEAT_MS}, so that one whose listener was killed is
 * known by its age, or at once by the process being gone. An entry is a hint and no more: whoever
 * answers at its addresses still has to prove the key.
 */

import { Buffer } from "node:buffer";
import { join } from "node:path";
import { ignoreNotFound, readAtMost, writeAtomically } from "../atomic_file.ts";
import { ensureRuntimeFolder, runtimeFolders } from "../runtime_folder.ts";
import { parseSocketAddress } from "../settings.ts";
import { debug } from "../stderr.ts";

/** How often a listener says that it is there. */
export const HEARTBEAT_MS = 30_000;
/** An entry older than this is of a listener that was killed. */
const STALE_MS = 3 * HEARTBEAT_MS;
const MAX_FILE_BYTES = 4 * 1024;
const MOST_ADDRESSES = 16;
/** Entries looked at when cleaning up. */
const MOST_ENTRIES = 1000;

interface Entry {
  readonly pid: number;
  /** Process ids mean something only within it: a container may share the runtime folder. */
  readonly pidNamespace: string;
  readonly direct: readonly string[];
}

/** A listener's entry. Dispose of it when the listener stops. */
export class SameHostEntry implements AsyncDisposable {
  #path: string;
  #content: string;
  #timer: ReturnType<typeof setInterval>;

  private constructor(path: string, content: string) {
    this.#path = path;
    this.#content = content;
    this.#timer = setInterval(() => {
      // Tried again at the next beat; meanwhile peers on this host may have to take another way.
      this.#write().catch((error) => debug(() => `same host: cannot write ${path}: ${error}`));
    }, HEARTBEAT_MS);
  }

  /**
   * Leaves an entry, in place of that of an earlier listener, and clears away those of dead ones.
   *
   * @param boundSockets What the endpoint is bound to, as `0.0.0.0:5` or `[::]:5`.
   * @param folder The runtime folder, if not the user's own.
   * @throws {RuntimeFolderError} and what the system says, if it cannot be left.
   */
  static async leave(
    publicKey: Uint8Array,
    boundSockets: readonly string[],
    folder?: string,
  ): Promise<SameHostEntry> {
    folder ??= await ensureRuntimeFolder();
    await removeDead(folder);
    const entry: Entry = {
      pid: Deno.pid,
      pidNamespace: await pidNamespace(),
      direct: boundSockets.map((socket) =>
        socket.replace(/^0\.0\.0\.0:/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:")
      ),
    };
    const left = new SameHostEntry(
      join(folder, entryName(publicKey)),
      JSON.stringify(entry) + "\n",
    );
    try {
      await left.#write();
      return left;
    } catch (error) {
      clearInterval(left.#timer);
      throw error;
    }
  }

  async #write(): Promise<void> {
    await writeAtomically(this.#path, this.#content, { mode: 0o600, ifPresent: "replace" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    const entry = await readEntry(this.#path).catch(() => undefined); // gone: nothing to take away
    if (entry?.pid !== Deno.pid) return; // a later listener's
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
  for (const folder of folders ?? await runtimeFolders()) {
    const path = join(folder, entryName(publicKey));
    const entry = await liveEntry(path).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) debug(() => `same host: ${path}: ${error}`);
    });
    if (entry) found.push(...entry.direct);
  }
  return found;
}

function entryName(publicKey: Uint8Array): string {
  return `${Buffer.from(publicKey).toString("hex")}.json`;
}

async function removeDead(folder: string): Promise<void> {
  let looked = 0;
  for await (const { name } of Deno.readDir(folder)) {
    if (!/^[0-9a-f]{64}\.json$/.test(name) || ++looked > MOST_ENTRIES) continue;
    await liveEntry(join(folder, name)).catch((error) =>
      debug(() => `same host: ${name}: ${error}`)
    );
  }
}

/** The entry in a file, if its listener is alive; that of a dead one is removed. */
async function liveEntry(path: string): Promise<Entry | undefined> {
  const age = Date.now() - (await Deno.stat(path)).mtime!.getTime();
  const entry = await readEntry(path);
  if (age < STALE_MS && !(await isDead(entry))) return entry;
  debug(() => `same host: removing ${path}, left by a listener that is gone`);
  await Deno.remove(path);
  return undefined;
}

async function readEntry(path: string): Promise<Entry> {
  const bytes = await readAtMost(path, MAX_FILE_BYTES);
  const value = JSON.parse(new TextDecoder().decode(bytes)) as Partial<
    Record<keyof Entry, unknown>
  >;
  const { pid, pidNamespace, direct } = value;
  const right = Number.isSafeInteger(pid) && typeof pidNamespace === "string" &&
    Array.isArray(direct) && direct.length <= MOST_ADDRESSES &&
    direct.every((address) => typeof address === "string" && parseSocketAddress(address));
  if (!right) throw new Error("not an entry");
  return { pid: pid as number, pidNamespace, direct };
}

async function isDead(entry: Entry): Promise<boolean> {
  if (entry.pidNamespace !== await pidNamespace()) return false; // not known: its age will tell
  const { default: process } = await import("node:process");
  try {
    process.kill(entry.pid, 0);
    return false;
  } catch (error) {
    return (error as { code?: string }).code === "ESRCH";
  }
}

async function pidNamespace(): Promise<string> {
  // Only Linux has them.
  return await Deno.readLink("/proc/self/ns/pid").catch(() => "");
}
