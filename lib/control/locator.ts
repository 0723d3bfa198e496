/**
 * How a process finds the running listener of its repository: a file in the user's runtime folder,
 * named after the repository's git directory, which says on which unix socket there the listener can
 * be asked, and what to say first. Looked for without waits: each would take longer than the look.
 *
 * Only the user can enter that folder (runtime_folder.ts); what belongs to somebody else in it is not
 * used. The cookie, which only the user can read, shows the listener who asks: Deno does not tell who is
 * at the other end of a unix socket.
 */

import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { ignoreNotFound, readTextAtMost, writeAtomically } from "../platform/atomic_file.ts";
import type { Repository } from "../repository/repository.ts";
import { ensureRuntimeFolder, runtimeFolders } from "../platform/runtime_folder.ts";
import type { Settings } from "../repository/settings.ts";
import { debug } from "../console/stderr.ts";

const MAX_FILE_BYTES = 8 * 1024;
const COOKIE_BYTES = 32;
/** A socket that is younger may not be listened on yet. */
const NEW_MS = 1_000;
/** Files looked at when cleaning up. */
const MOST_FILES = 1000;

/** Where the control socket is, and what it is. */
export interface ControlLocator {
  /** Absolute path of the unix socket. */
  readonly socketPath: string;
  /** To be shown to it. */
  readonly cookie: string;
}

interface Content {
  readonly version: string;
  /** Name of the unix socket in the same folder. */
  readonly socket: string;
  readonly cookie: string;
  /** With which settings the listener reaches peers. */
  readonly settings: string;
}

/** A locator that was published. Dispose of it when the control server ends. */
export class PublishedLocator implements AsyncDisposable, ControlLocator {
  readonly socketPath: string;
  readonly cookie = crypto.getRandomValues(new Uint8Array(COOKIE_BYTES)).toHex();
  #path: string;
  #socket: string;

  private constructor(folder: string, name: string) {
    this.#socket = `${crypto.getRandomValues(new Uint8Array(6)).toHex()}.hub`;
    this.#path = join(folder, name);
    this.socketPath = join(folder, this.#socket);
  }

  /** Chooses a name, and clears away what control servers left that were killed. */
  static async prepare(repository: Repository): Promise<PublishedLocator> {
    const folder = await ensureRuntimeFolder();
    await removeDead(folder);
    return new PublishedLocator(folder, fileName(repository));
  }

  /** Publishes the locator, in place of an earlier listener's. The socket is there. */
  async publish(settings: Settings): Promise<void> {
    const content: Content = {
      version: config.version,
      socket: this.#socket,
      cookie: this.cookie,
      settings: routeSettings(settings),
    };
    await writeAtomically(this.#path, JSON.stringify(content) + "\n", {
      mode: 0o600,
      ifPresent: "replace",
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.socketPath).catch(ignoreNotFound);
    let present: Content | undefined;
    try {
      present = readContent(this.#path);
    } catch (error) {
      debug(() => `${this.#path}: ${error}`); // gone, or somebody else's
    }
    if (present?.socket === this.#socket) await Deno.remove(this.#path).catch(ignoreNotFound);
  }
}

/**
 * The control socket of a repository; undefined if there is none that would do the same. Never throws.
 *
 * @param settings With which it is to reach peers; with any when not given.
 * @param folders The runtime folders; looked for when not given.
 */
export function locateControlSocket(
  repository: Repository,
  settings?: Settings,
  folders?: readonly string[],
): ControlLocator | undefined {
  for (const folder of folders ?? runtimeFolders()) {
    try {
      const path = join(folder, fileName(repository));
      const { version, socket, cookie, settings: its } = readContent(path);
      const socketPath = join(folder, socket);
      if (version !== config.version) debug(() => `the listener is of version ${version}`);
      else if (settings && its !== routeSettings(settings)) {
        debug(() => "the listener has other settings");
      } else if (isOurs(socketPath)) return { socketPath, cookie };
      else debug(() => `${socketPath} is somebody else's`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) {
        debug(() => `no control socket in ${folder}: ${error}`);
      }
    }
  }
  return undefined;
}

/** What of the settings matters to how a peer is reached. */
function routeSettings(
  { relay, lookup, lan, lane, bind, external }: Omit<Settings, "maxConnections" | "warm">,
): string {
  return JSON.stringify([relay, lookup, lan, lane, bind, external]);
}

/** By what tells one folder of this host from another. */
function fileName({ gitDir }: Repository): string {
  const { dev, ino } = Deno.statSync(gitDir);
  return `${dev.toString(36)}-${(ino ?? 0).toString(36)}.repository`;
}

function readContent(path: string): Content {
  if (!isOurs(path)) throw new Error("it is somebody else's");
  const { version, socket, cookie, settings } = JSON.parse(readTextAtMost(path, MAX_FILE_BYTES));
  const right = typeof version === "string" && typeof settings === "string" &&
    typeof cookie === "string" && typeof socket === "string" && /^[0-9a-f]+\.hub$/.test(socket);
  if (!right) throw new Error("it is not a locator");
  return { version, socket, cookie, settings };
}

function isOurs(path: string): boolean {
  const { uid, isSymlink } = Deno.lstatSync(path);
  return uid === Deno.uid() && !isSymlink;
}

/** A control server that was killed leaves its socket, which nobody answers. */
async function removeDead(folder: string): Promise<void> {
  let looked = 0;
  for await (const { name } of Deno.readDir(folder)) {
    if (!/^[0-9a-f]+\.hub$/.test(name) || ++looked > MOST_FILES) continue;
    const path = join(folder, name);
    try {
      (await Deno.connect({ transport: "unix", path })).close();
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionRefused)) continue; // another may clear up, too
      const { mtime } = await Deno.lstat(path).catch(() => ({ mtime: null })); // as above
      if (!mtime || Date.now() - mtime.getTime() < NEW_MS) continue; // it is being made
      await Deno.remove(path).catch(ignoreNotFound);
    }
  }
}
