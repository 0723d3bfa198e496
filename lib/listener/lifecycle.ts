/**
 * Finds out when a listener is no longer wanted. git-annex starts a listener, and then neither stops nor
 * restarts it. A second `git annex remotedaemon` starts a second listener on the same socket. The listener
 * therefore ends by itself, in each of these cases:
 *
 * - Its parent process is gone.
 * - The socket file is gone.
 * - No process listens on the socket.
 * - A later listener has signed the repository's `listener` file.
 */

import { join } from "node:path";
import { delay } from "../async/abort.ts";
import { ignoreNotFound, readTextAtMost } from "../platform/atomic_file.ts";
import { HeldFile, readHeldFile } from "../platform/held_file.ts";
import { isAlive } from "../platform/process_alive.ts";
import type { Repository } from "../repository/repository.ts";
import { debug } from "../console/stderr.ts";
import { nobodyListens, UnixSocket } from "../platform/unix_socket.ts";

/** Interval between looks. They use calls that do not wait: others cost ten times as much. */
const LOOK_INTERVAL_MS = 1_000;
/** Time that the socket file may be missing: git-annex makes it anew in a moment. */
const MISSING_TIMEOUT_MS = 2_000;
/** Time that the socket may refuse: a git-annex that restarts refuses only for a moment. */
const REFUSING_TIMEOUT_MS = 5_000;
/** Process 1 adopts orphans. A listener that it has started cannot tell that its parent is gone. */
const INIT_PID = 1;
const MAX_FILE_BYTES = 256;

/** Time limits of a lifecycle. Tests pass shorter ones. */
export interface LifecycleLimits {
  readonly lookIntervalMs: number;
  readonly missingTimeoutMs: number;
  readonly refusingTimeoutMs: number;
}

const LIMITS: LifecycleLimits = {
  lookIntervalMs: LOOK_INTERVAL_MS,
  missingTimeoutMs: MISSING_TIMEOUT_MS,
  refusingTimeoutMs: REFUSING_TIMEOUT_MS,
};

/** What a lifecycle watches. */
export interface LifecycleOptions {
  readonly repository: Repository;
  /** Path of the unix socket on which git-annex listens. */
  readonly socketPath: string;
  /** Id of the process that has started this one, read at the start of this one. */
  readonly parent: number;
  readonly limits?: Partial<LifecycleLimits>;
  /** Returns the time in milliseconds; tests pass another clock. */
  readonly now?: () => number;
}

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
  /** The signature, held for as long as this process lives; undefined if it cannot be written. */
  #held: HeldFile | undefined;
  #limits: LifecycleLimits;
  #now: () => number;
  #unwanted = new AbortController();
  #stopped = new AbortController();
  #missingSince: number | undefined;
  #refusingSince: number | undefined;
  #watching: Promise<void> = Promise.resolve();

  private constructor(options: LifecycleOptions) {
    const { repository, socketPath, parent, limits = {}, now = () => performance.now() } = options;
    this.#parent = parent;
    this.#socketPath = socketPath;
    this.#signaturePath = join(listenerFolder(repository), "listener");
    this.#limits = { ...LIMITS, ...limits };
    this.#now = now;
  }

  /** Makes this process the repository's listener. An earlier listener is then no longer wanted. */
  static async begin(options: LifecycleOptions): Promise<Lifecycle> {
    const lifecycle = new Lifecycle(options);
    await lifecycle.#sign(); // before the first look at the signature
    lifecycle.#watching = lifecycle.#watch();
    return lifecycle;
  }

  /** Aborted when the listener is no longer wanted, with {@linkcode NotWanted} as its reason. */
  get unwanted(): AbortSignal {
    return this.#unwanted.signal;
  }

  /** Notes that no process listened on the socket. The next looks find out whether that lasts. */
  socketRefused(): void {
    this.#refusingSince ??= this.#now();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort();
    await this.#watching;
    using _held = this.#held;
    this.#held = undefined;
    if (this.#signedBy() !== this.#signature) return; // a later listener has signed
    await Deno.remove(this.#signaturePath).catch(ignoreNotFound);
  }

  async #watch(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      const reason = await this.#reason();
      if (reason) return this.#unwanted.abort(new NotWanted(reason));
      await delay(this.#limits.lookIntervalMs, this.#stopped.signal).catch(() => {}); // the loop ends
    }
  }

  async #reason(): Promise<string | undefined> {
    if (this.#parent !== INIT_PID && Deno.ppid !== this.#parent) {
      return "the process that started it is gone";
    }
    if (this.#isMissing()) return "git-annex's socket file is gone";
    if (await this.#isRefusing()) return "git-annex no longer listens on its socket";
    const signature = this.#signedBy();
    if (signature === undefined) await this.#sign(); // a user has tidied up
    else if (signature !== this.#signature) return "a newer listener took over";
  }

  #isMissing(): boolean {
    let isThere = true;
    try {
      Deno.lstatSync(this.#socketPath);
    } catch (error) {
      isThere = !(error instanceof Deno.errors.NotFound); // a disk may fail for a moment
    }
    this.#missingSince = isThere ? undefined : this.#missingSince ?? this.#now();
    return this.#isOver(this.#limits.missingTimeoutMs, this.#missingSince);
  }

  async #isRefusing(): Promise<boolean> {
    if (this.#refusingSince === undefined) return false;
    try {
      (await UnixSocket.connect(this.#socketPath))[Symbol.dispose]();
      this.#refusingSince = undefined;
    } catch (error) {
      debug(() => `git-annex's socket: ${error}`);
      if (!nobodyListens(error)) this.#refusingSince = undefined; // git-annex is busy
    }
    return this.#isOver(this.#limits.refusingTimeoutMs, this.#refusingSince);
  }

  #isOver(timeoutMs: number, since: number | undefined): boolean {
    return since !== undefined && this.#now() - since >= timeoutMs;
  }

  /** Returns the latest signature; undefined if there is none. */
  #signedBy(): string | undefined {
    try {
      return readTextAtMost(this.#signaturePath, MAX_FILE_BYTES);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      debug(() => `cannot read ${this.#signaturePath}: ${error}`);
      return this.#signature; // an unreadable file is no reason to stop
    }
  }

  async #sign(): Promise<void> {
    try {
      const held = await HeldFile.replace(this.#signaturePath, this.#signature);
      this.#held?.[Symbol.dispose]();
      this.#held = held;
    } catch (error) {
      // Without a signature no later listener can take over. That is no reason to stop.
      debug(() => `cannot write ${this.#signaturePath}: ${error}`);
    }
  }
}

/**
 * Returns the id of the process that serves a repository; undefined if none does.
 *
 * @throws What the system says.
 */
export async function runningListener(repository: Repository): Promise<number | undefined> {
  try {
    const path = join(listenerFolder(repository), "listener");
    const { text, isHeld } = readHeldFile(path, MAX_FILE_BYTES);
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
