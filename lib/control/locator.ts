/**
 * The locator, a file by which a process finds the running listener of its repository.
 *
 * It lies in the user's runtime folder, is named after the git directory, and has the name of the control
 * socket and a cookie. A process reads it with synchronous calls, which take less time than to wait for
 * asynchronous ones.
 *
 * Only the user can enter that folder (runtime_folder.ts). Files of another user are not used. Deno does
 * not tell which user is at the other end of a unix socket, so the listener demands the cookie.
 */

import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { ignoreNotFound, readTextAtMost, writeAtomically } from "../platform/atomic_file.ts";
import type { Repository } from "../repository/repository.ts";
import { ensureRuntimeFolder, runtimeFolders } from "../platform/runtime_folder.ts";
import type { Settings } from "../repository/settings.ts";
import { debug } from "../console/stderr.ts";

/** Maximum size of a locator. The settings in it take the most: URLs of relays. */
const MAX_FILE_BYTES = 8 * 1024;
/** Length of the cookie, as of a key. */
const COOKIE_BYTES = 32;
/** Minimum age of a dead socket. A younger one may belong to a listener that is about to listen. */
const MIN_DEAD_AGE_MS = 1_000;
/** Maximum number of sockets that one clean-up tries, so that a full folder does not delay a start. */
const MAX_SOCKETS_TRIED = 1000;
/** Matches the name of a control socket. It has no slash, so it cannot lead out of the folder. */
const SOCKET_NAME = /^[0-9a-f]+\.control$/;

/** Where the control socket is, and how to be accepted there. */
export interface ControlLocator {
  /** Absolute path of the unix socket. */
  readonly socketPath: string;
  /** Secret of the listener, for REQUEST. */
  readonly cookie: string;
}

/** The JSON in the file. */
interface Content {
  readonly version: string;
  /** Name of the unix socket in the same folder. */
  readonly socket: string;
  readonly cookie: string;
  /** The listener's settings that concern how it reaches peers, as {@linkcode routeSettings} gives them. */
  readonly settings: string;
}

/** The locator of a control server, which disposes of it at its end. */
export class PublishedLocator implements AsyncDisposable, ControlLocator {
  readonly socketPath: string;
  readonly cookie = crypto.getRandomValues(new Uint8Array(COOKIE_BYTES)).toHex();
  #path: string;
  #socket: string;

  private constructor(folder: string, name: string) {
    this.#socket = `${crypto.getRandomValues(new Uint8Array(6)).toHex()}.control`;
    this.#path = join(folder, name);
    this.socketPath = join(folder, this.#socket);
  }

  /** Chooses a name for the socket, and removes sockets of listeners that were killed. */
  static async prepare(repository: Repository): Promise<PublishedLocator> {
    const folder = await ensureRuntimeFolder();
    await removeDeadSockets(folder);
    return new PublishedLocator(folder, fileName(repository));
  }

  /** Writes the file, in place of an earlier listener's. The socket must be there. */
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
      debug(() => `${this.#path}: ${error}`); // gone, or of another user
    }
    if (present?.socket === this.#socket) await Deno.remove(this.#path).catch(ignoreNotFound);
  }
}

/**
 * Finds the control socket of a repository. Never throws.
 *
 * @param settings Settings that the listener must have; any by default.
 * @param folders The runtime folders, by default those that are usable.
 * @returns Undefined if there is none, or if its listener has another version or other settings.
 */
export function locateControlSocket(
  repository: Repository,
  settings?: Settings,
  folders?: readonly string[],
): ControlLocator | undefined {
  for (const folder of folders ?? runtimeFolders()) {
    try {
      const path = join(folder, fileName(repository));
      const { version, socket, cookie, settings: listenerSettings } = readContent(path);
      const socketPath = join(folder, socket);
      if (version !== config.version) debug(() => `the listener is of version ${version}`);
      else if (settings && listenerSettings !== routeSettings(settings)) {
        debug(() => "the listener has other settings");
      } else if (isOurs(socketPath)) return { socketPath, cookie };
      else debug(() => `${socketPath} belongs to another user`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) {
        debug(() => `no control socket in ${folder}: ${error}`);
      }
    }
  }
  return undefined;
}

/** Returns the settings that concern how a peer is reached, as text that can be compared. */
function routeSettings(
  { relay, relayTokenFile, lookup, lan, lane, bind, external }: Omit<
    Settings,
    "maxConnections" | "warm"
  >,
): string {
  // Only the listener has read the token.
  const withoutToken = (key: string, value: unknown) => key === "token" ? undefined : value;
  const settings = [relay, relayTokenFile, lookup, lan, lane, bind, external];
  return JSON.stringify(settings, withoutToken);
}

/** Returns the name of a repository's locator. Device and inode identify the git directory. */
function fileName({ gitDir }: Repository): string {
  const { dev, ino } = Deno.statSync(gitDir);
  return `${dev.toString(36)}-${(ino ?? 0).toString(36)}.repository`;
}

function readContent(path: string): Content {
  if (!isOurs(path)) throw new Error("it belongs to another user, or is a symbolic link");
  const { version, socket, cookie, settings } = JSON.parse(readTextAtMost(path, MAX_FILE_BYTES));
  const isValid = typeof version === "string" && typeof settings === "string" &&
    typeof cookie === "string" && typeof socket === "string" && SOCKET_NAME.test(socket);
  if (!isValid) throw new Error("it is not a locator");
  return { version, socket, cookie, settings };
}

/** Tells whether a file belongs to this user and is no symbolic link. */
function isOurs(path: string): boolean {
  const { uid, isSymlink } = Deno.lstatSync(path);
  return uid === Deno.uid() && !isSymlink;
}

/** Removes sockets on which no process listens. A listener that was killed leaves its socket behind. */
async function removeDeadSockets(folder: string): Promise<void> {
  let tried = 0;
  for await (const { name } of Deno.readDir(folder)) {
    if (!SOCKET_NAME.test(name) || ++tried > MAX_SOCKETS_TRIED) continue;
    const path = join(folder, name);
    try {
      (await Deno.connect({ transport: "unix", path })).close();
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionRefused)) continue; // in use, or removed meanwhile
      const { mtime } = await Deno.lstat(path).catch(() => ({ mtime: null })); // removed meanwhile
      if (!mtime || Date.now() - mtime.getTime() < MIN_DEAD_AGE_MS) continue;
      await Deno.remove(path).catch(ignoreNotFound);
    }
  }
}
