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

import { delay } from "../async/abort.ts";
import type { Repository } from "../repository/repository.ts";
import { debug } from "../console/stderr.ts";
import { nobodyListens, UnixSocket } from "../platform/unix_socket.ts";
import { ListenerSignature } from "./listener_file.ts";

/** Interval between looks. They use calls that do not wait: others cost ten times as much. */
const LOOK_INTERVAL_MS = 1_000;
/** Time that the socket file may be missing: git-annex makes it anew in a moment. */
const MISSING_TIMEOUT_MS = 2_000;
/** Time that the socket may refuse: a git-annex that restarts refuses only for a moment. */
const REFUSING_TIMEOUT_MS = 5_000;
/** Process 1 adopts orphans. A listener that it has started cannot tell that its parent is gone. */
const INIT_PID = 1;

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
  /** Returns the id of this process's parent at present; tests pass another function. */
  readonly presentParent?: () => number;
}

/** Why a listener is no longer wanted. */
export class NotWanted extends Error {
  override readonly name = "NotWanted";
}

/** A fault that counts only once it has lasted for a while. */
class LastingFault {
  #timeoutMs: number;
  #now: () => number;
  #since: number | undefined;

  constructor(timeoutMs: number, now: () => number) {
    this.#timeoutMs = timeoutMs;
    this.#now = now;
  }

  /** Whether it was seen at the last look. */
  get isThere(): boolean {
    return this.#since !== undefined;
  }

  /** Notes what a look has found. */
  note(isThere: boolean): void {
    this.#since = isThere ? this.#since ?? this.#now() : undefined;
  }

  get hasLasted(): boolean {
    return this.#since !== undefined && this.#now() - this.#since >= this.#timeoutMs;
  }
}

/** Watches whether a listener is still wanted. Dispose of it when the listener has stopped. */
export class Lifecycle implements AsyncDisposable {
  #parent: number;
  #presentParent: () => number;
  #socketPath: string;
  #signature: ListenerSignature;
  #lookIntervalMs: number;
  #missing: LastingFault;
  #refusing: LastingFault;
  #unwanted = new AbortController();
  #stopped = new AbortController();
  #watching: Promise<void> = Promise.resolve();

  private constructor(options: LifecycleOptions) {
    const { repository, socketPath, parent, limits = {}, now = () => performance.now() } = options;
    const { lookIntervalMs, missingTimeoutMs, refusingTimeoutMs } = { ...LIMITS, ...limits };
    this.#parent = parent;
    this.#presentParent = options.presentParent ?? (() => Deno.ppid);
    this.#socketPath = socketPath;
    this.#signature = new ListenerSignature(repository);
    this.#lookIntervalMs = lookIntervalMs;
    this.#missing = new LastingFault(missingTimeoutMs, now);
    this.#refusing = new LastingFault(refusingTimeoutMs, now);
  }

  /** Makes this process the repository's listener. An earlier listener is then no longer wanted. */
  static async begin(options: LifecycleOptions): Promise<Lifecycle> {
    const lifecycle = new Lifecycle(options);
    await lifecycle.#signature.sign(); // before the first look at the signature
    lifecycle.#watching = lifecycle.#watch();
    return lifecycle;
  }

  /** Aborted when the listener is no longer wanted, with {@linkcode NotWanted} as its reason. */
  get unwanted(): AbortSignal {
    return this.#unwanted.signal;
  }

  /** Notes that no process listened on the socket. The next looks find out whether that lasts. */
  socketRefused(): void {
    this.#refusing.note(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort();
    await this.#watching;
    await this.#signature[Symbol.asyncDispose]();
  }

  async #watch(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      const reason = await this.#reason();
      if (reason) return this.#unwanted.abort(new NotWanted(reason));
      await delay(this.#lookIntervalMs, this.#stopped.signal).catch(() => {}); // the loop ends
    }
  }

  async #reason(): Promise<string | undefined> {
    if (this.#parent !== INIT_PID && this.#presentParent() !== this.#parent) {
      return "the process that started it is gone";
    }
    this.#missing.note(this.#isMissing());
    if (this.#missing.hasLasted) return "git-annex's socket file is gone";
    if (this.#refusing.isThere) this.#refusing.note(await this.#isRefusing());
    if (this.#refusing.hasLasted) return "git-annex no longer listens on its socket";
    const signature = this.#signature.latest();
    if (signature === "none") await this.#signature.sign(); // a user has tidied up
    else if (signature === "another") return "a newer listener took over";
  }

  #isMissing(): boolean {
    try {
      Deno.lstatSync(this.#socketPath);
      return false;
    } catch (error) {
      return error instanceof Deno.errors.NotFound; // a disk may fail for a moment
    }
  }

  async #isRefusing(): Promise<boolean> {
    try {
      (await UnixSocket.connect(this.#socketPath))[Symbol.dispose]();
      return false;
    } catch (error) {
      debug(() => `git-annex's socket: ${error}`);
      return nobodyListens(error); // otherwise git-annex is busy
    }
  }
}
