/**
 * When a listener is no longer wanted. git-annex starts one and then forgets it: it neither stops it
 * nor starts it again, and a second `git annex remotedaemon` starts a second one behind the same
 * socket. So a listener finds out by itself: its parent is gone, the socket file is gone, nobody
 * listens on the socket for good, or a later listener has signed the repository's `listener` file.
 */

import { join } from "node:path";
import { delay } from "../async/abort.ts";
import { ignoreNotFound, readTextAtMost, writeAtomically } from "../platform/atomic_file.ts";
import { isAlive } from "../platform/process_alive.ts";
import type { Repository } from "../repository/repository.ts";
import { debug } from "../console/stderr.ts";
import { nobodyListens, UnixSocket } from "../platform/unix_socket.ts";

/** How often to look. By calls that do not wait: those that do cost ten times as much. */
const LOOK_MS = 1_000;
/** A socket file may be missing for a moment while git-annex makes it anew. */
const MISSING_LIMIT_MS = 2_000;
/** A socket that refuses this long has nobody behind it. */
const REFUSING_LIMIT_MS = 5_000;
/** Process 1 adopts orphans, so it is nobody whose end would mean something. */
const INIT_PID = 1;
const MAX_FILE_BYTES = 256;

/** Why a listener is no longer wanted. */
export class NotWanted extends Error {
  override readonly name = "NotWanted";
}

/** Watches whether a listener is still wanted. Dispose of it when the listener has stopped. */
export class Lifecycle implements AsyncDisposable {
  #parent: number;
  #signature = `${Deno.pid} ${crypto.randomUUID()}\n`;
  #socketPath: string;
  #signaturePath: string;
  #unwanted = new AbortController();
  #stopped = new AbortController();
  #missingSince: number | undefined;
  #refusingSince: number | undefined;
  #watching: Promise<void> = Promise.resolve();

  private constructor(repository: Repository, socketPath: string, parent: number) {
    this.#parent = parent;
    this.#socketPath = socketPath;
    this.#signaturePath = join(listenerFolder(repository), "listener");
  }

  /**
   * Makes this process the repository's listener, and tells an earlier one so.
   *
   * @param parent The process that started this one, as it was at the start.
   */
  static async begin(
    repository: Repository,
    socketPath: string,
    parent: number,
  ): Promise<Lifecycle> {
    const lifecycle = new Lifecycle(repository, socketPath, parent);
    await lifecycle.#sign(); // before it looks whose signature is there
    lifecycle.#watching = lifecycle.#watch();
    return lifecycle;
  }

  /** Aborted when the listener is no longer wanted, with {@linkcode NotWanted} as its reason. */
  get unwanted(): AbortSignal {
    return this.#unwanted.signal;
  }

  /** Tell it that nobody answered on the socket; it finds out whether that is for good. */
  socketRefused(): void {
    this.#refusingSince ??= performance.now();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort();
    await this.#watching;
    if (this.#signedBy() !== this.#signature) return; // a later listener's
    await Deno.remove(this.#signaturePath).catch(ignoreNotFound);
  }

  async #watch(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      const reason = await this.#reason();
      if (reason) return this.#unwanted.abort(new NotWanted(reason));
      await delay(LOOK_MS, this.#stopped.signal).catch(() => {}); // stopped: the loop ends
    }
  }

  async #reason(): Promise<string | undefined> {
    if (this.#parent !== INIT_PID && Deno.ppid !== this.#parent) {
      return "the process that started it is gone";
    }
    if (this.#isMissing()) return "git-annex's socket file is gone";
    if (await this.#isRefusing()) return "nobody listens on git-annex's socket any more";
    const signature = this.#signedBy();
    if (signature === undefined) await this.#sign(); // somebody tidied up
    else if (signature !== this.#signature) return "a newer listener took over";
  }

  #isMissing(): boolean {
    let isThere = true;
    try {
      Deno.lstatSync(this.#socketPath);
    } catch (error) {
      isThere = !(error instanceof Deno.errors.NotFound); // a disk may have its moments
    }
    this.#missingSince = isThere ? undefined : this.#missingSince ?? performance.now();
    return longerThan(MISSING_LIMIT_MS, this.#missingSince);
  }

  async #isRefusing(): Promise<boolean> {
    if (this.#refusingSince === undefined) return false;
    try {
      (await UnixSocket.connect(this.#socketPath))[Symbol.dispose]();
      this.#refusingSince = undefined;
    } catch (error) {
      debug(() => `git-annex's socket: ${error}`);
      if (!nobodyListens(error)) this.#refusingSince = undefined; // somebody is busy
    }
    return longerThan(REFUSING_LIMIT_MS, this.#refusingSince);
  }

  /** Who signed last; undefined if nobody has. */
  #signedBy(): string | undefined {
    try {
      return readTextAtMost(this.#signaturePath, MAX_FILE_BYTES);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      debug(() => `cannot read ${this.#signaturePath}: ${error}`);
      return this.#signature; // what cannot be read is no reason to stop
    }
  }

  async #sign(): Promise<void> {
    try {
      await writeAtomically(this.#signaturePath, this.#signature, {
        mode: 0o600,
        ifPresent: "replace",
      });
    } catch (error) {
      debug(() => `cannot write ${this.#signaturePath}: ${error}`); // then nobody can take over
    }
  }
}

/** Id of the process that serves a repository; undefined if none does. @throws What the system says. */
export async function runningListener(repository: Repository): Promise<number | undefined> {
  const path = join(listenerFolder(repository), "listener");
  let signature = "";
  try {
    signature = readTextAtMost(path, MAX_FILE_BYTES);
  } catch (error) {
    ignoreNotFound(error);
  }
  const pid = Number(/^(\d+) /.exec(signature)?.[1]);
  return pid > 0 && await isAlive(pid) ? pid : undefined;
}

/** Folder of what a repository's listener keeps: its log, and who it is. */
export function listenerFolder(repository: Repository): string {
  return join(repository.gitDir, "annex", "p2p-iroh");
}

function longerThan(milliseconds: number, since: number | undefined): boolean {
  return since !== undefined && performance.now() - since >= milliseconds;
}
