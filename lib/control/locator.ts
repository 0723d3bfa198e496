/**
 * The locator, a file by which a process finds the running listener of its repository.
 *
 * It lies in the repository, private to the user, and has the path of the control socket and a cookie. The socket
 * lies in the user's runtime folder (runtime_folder.ts), since the repository may be on a file system that has
 * no sockets. A process reads the locator with synchronous calls, which take less time than to wait for
 * asynchronous ones.
 *
 * Other hosts and containers may share the repository, so the locator says where its listener runs. Files of
 * another user are not used. Deno does not tell which user is at the other end of a unix socket, so the
 * listener demands the cookie.
 */

import { basename, dirname, isAbsolute, join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { ignoreNotFound, readOwnText, writeAtomically } from "../platform/atomic_file.ts";
import { type HostId, parseHostId, thisHost, whereaboutsOf } from "../platform/host.ts";
import { privacyProblem } from "../platform/private_folder.ts";
import { ensureRuntimeFolder } from "../platform/runtime_folder.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import type { Repository } from "../repository/repository.ts";
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
/** Matches the name of a control socket. */
const SOCKET_NAME = /^[0-9a-f]+\.control$/;

/** Where the control socket is, and how to be accepted there. */
export interface ControlSocket {
  /** Absolute path of the unix socket. */
  readonly socketPath: string;
  /** Secret of the listener, for REQUEST. */
  readonly cookie: string;
}

/** What the locator says to a process of the same version. */
export interface ControlLocator extends ControlSocket {
  /** The listener's settings that concern how it reaches peers, as {@linkcode routeSettings} gives them. */
  readonly settings: string;
  /** The git config that the listener knows; undefined if only git can tell it. */
  readonly config?: KnownConfig | undefined;
}

/** A git config that a listener knows, and watches (repository/config_snapshot.ts). */
export interface KnownConfig {
  /** Tells it from the config before a change, and after one. */
  readonly id: string;
  /** What `git config --null --get-regexp '^p2p-iroh\.'` prints. */
  readonly entries: string;
  /** The environment in which it holds, as `gitEnvironment()` gives it. */
  readonly environment: string;
}

/** The JSON in the file. */
interface Content {
  readonly version: string;
  /** Absolute path of the unix socket. */
  readonly socket: string;
  readonly cookie: string;
  readonly settings: string;
  readonly config?: KnownConfig | undefined;
  /** Where the listener runs. */
  readonly host: HostId;
}

/** The locator of a control server, which disposes of it at its end. */
export class PublishedLocator implements AsyncDisposable {
  readonly cookie = crypto.getRandomValues(new Uint8Array(COOKIE_BYTES)).toHex();
  #repository: Repository;
  /** Name of the socket. No other user can guess it. */
  #name = `${crypto.getRandomValues(new Uint8Array(6)).toHex()}.control`;
  #socketPath: string | undefined;

  constructor(repository: Repository) {
    this.#repository = repository;
  }

  /**
   * Chooses a folder for the socket, and removes sockets of listeners that were killed.
   *
   * @returns The path of the socket.
   * @throws {RuntimeFolderError} if there is no folder for it.
   */
  async chooseSocketPath(): Promise<string> {
    const folder = await ensureRuntimeFolder();
    await removeDeadSockets(folder);
    return this.#socketPath = join(folder, this.#name);
  }

  /**
   * Writes the file, in place of an earlier listener's. The socket and the folder must be there.
   *
   * @param known The git config, if this listener watches it.
   * @throws What the system says.
   */
  async publish(settings: Settings, known?: KnownConfig): Promise<void> {
    const content: Content = {
      version: config.version,
      socket: this.#socketPath!,
      cookie: this.cookie,
      settings: routeSettings(settings),
      host: thisHost(),
    };
    const { id = "", entries = "", environment = "" } = known ?? {};
    const whole = contentText({ ...content, config: known && { id, entries, environment } });
    const text = whole.length <= MAX_FILE_BYTES ? whole : contentText(content);
    await writeAtomically(pathOf(this.#repository), text, { mode: 0o600, ifPresent: "replace" });
  }

  /** Returns what is not there: it was never made, or a clean-up has removed it. */
  get missing(): "nothing" | "file" | "socket" {
    if (this.#socketPath === undefined || !exists(this.#socketPath)) return "socket";
    return exists(pathOf(this.#repository)) ? "nothing" : "file"; // a later listener's is left alone
  }

  /** Tells whether the file is still this listener's. */
  isPresent(): boolean {
    const path = pathOf(this.#repository);
    try {
      return readContent(path).cookie === this.cookie;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) debug(() => `${path}: ${error}`);
      return false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#socketPath === undefined) return;
    await Deno.remove(this.#socketPath).catch(ignoreNotFound);
    if (this.isPresent()) await Deno.remove(pathOf(this.#repository)).catch(ignoreNotFound);
  }
}

/**
 * Finds the control socket of a repository. Never throws.
 *
 * @param settings Settings that the listener must have; any by default.
 * @returns Undefined if there is none, or if its listener has another version or other settings.
 */
export function locateControlSocket(
  repository: Repository,
  settings?: Settings,
): ControlLocator | undefined {
  try {
    const { version, socket, host, ...locator } = readContent(pathOf(repository));
    const problem = whereaboutsOf(host) !== "here"
      ? `it runs in another place, on ${host.name}`
      : version !== config.version
      ? `it is of version ${version}`
      : settings && locator.settings !== routeSettings(settings)
      ? "it has other settings"
      : socketProblem(socket);
    if (problem === undefined) return { socketPath: socket, ...locator };
    debug(() => `not through the running listener: ${problem}`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) debug(() => `no control socket: ${error}`);
  }
  return undefined;
}

/** Returns why a socket is not used; undefined if it is this user's. @throws What the system says. */
function socketProblem(path: string): string | undefined {
  const problem = privacyProblem(dirname(path));
  if (problem) return `the folder of its socket ${problem}`;
  return isOurs(path) ? undefined : "its socket belongs to another user";
}

/**
 * Returns the version of a repository's listener on this host, if it is not this program's. Never throws.
 *
 * @returns Undefined if the listener is of this version, or if there is no locator. The listener may have ended.
 */
export function otherVersion(repository: Repository): string | undefined {
  try {
    const { version, host } = readContent(pathOf(repository));
    return version !== config.version && whereaboutsOf(host) === "here" ? version : undefined;
  } catch {
    return undefined; // locateControlSocket() says why
  }
}

/** Returns the settings that concern how a peer is reached, as text that can be compared. */
export function routeSettings(
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

function pathOf(repository: Repository): string {
  return join(listenerFolder(repository), "control");
}

function readContent(path: string): Content {
  const { version, socket, cookie, settings, config, host: writer } = JSON.parse(
    readOwnText(path, MAX_FILE_BYTES),
  );
  const host = parseHostId(writer);
  const isValid = typeof version === "string" && typeof settings === "string" &&
    typeof cookie === "string" && typeof socket === "string" && isAbsolute(socket) &&
    SOCKET_NAME.test(basename(socket));
  if (!isValid || !host) throw new Error("it is not a locator");
  const { id, entries, environment } = config ?? {};
  const isKnown = [id, entries, environment].every((value) => typeof value === "string");
  return { version, socket, cookie, settings, host, config: isKnown ? config : undefined };
}

function contentText(content: Content): string {
  return JSON.stringify(content) + "\n";
}

/** Tells whether a file belongs to this user and is no symbolic link. */
function isOurs(path: string): boolean {
  const { uid, isSymlink } = Deno.lstatSync(path);
  return uid === Deno.uid() && !isSymlink;
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    return !(error instanceof Deno.errors.NotFound); // a disk may fail for a moment
  }
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
