/**
 * Keeps a repository served: starts `git annex remotedaemon`, starts it again when it or its listener ends, and
 * lets it know of new remotes. If another process serves the repository, waits for its end.
 *
 * One look twice a second finds all that happens: what git-annex's files say, which process serves, whether the
 * repository is there. Looks work on every file system, and need no clean-up, unlike watches.
 */

import { join } from "node:path";
import { abortable, delay } from "../async/abort.ts";
import { fileState } from "../platform/file_state.ts";
import { Failure } from "../console/failure.ts";
import { PROGRAM } from "../console/program.ts";
import { debug } from "../console/stderr.ts";
import { addressListPath, ensureEnabled } from "../repository/enable.ts";
import type { Repository } from "../repository/repository.ts";
import { describeUp, runningUp, UpEntry } from "./entry.ts";
import type { UpEvent } from "./event.ts";
import { Refetches } from "./fetch_again.ts";
import { FetchWatch } from "./fetch_watch.ts";
import { type ListenerState, ListenerWatch } from "./listener_watch.ts";
import { type DaemonEnd, endLeftBehind, type LeftBehind, RemoteDaemon } from "./remote_daemon.ts";
import { Remotes } from "./remotes.ts";
import { findServer, whoRuns } from "./server.ts";

/** Interval between looks. A new remote is heard within 3 s: a look, and 2 s of git-annex. */
const LOOK_INTERVAL_MS = 500;
/** Pauses before a restart: the first, doubled each time, up to the longest. */
const FIRST_PAUSE_MS = 1_000, LONGEST_PAUSE_MS = 60_000;
/** Time for which a repository must have been served, so that the pauses begin anew. */
const STEADY_MS = 60_000;
/** Attempts before `up` gives up, if none has ever served. */
const FIRST_ATTEMPTS = 4;
/** Timeout for remotedaemon to start a listener; on a slow disk the program takes some seconds. */
const START_TIMEOUT_MS = 30_000;
/** Time after which the user is told of what an earlier `up` has left. Mostly it ends within a second. */
const LEFT_TOLD_AFTER_MS = 1_000;

/** The repository has been moved or removed. */
export class RepositoryGone extends Failure {
  override readonly name = "RepositoryGone";
}

/** remotedaemon has never served the repository. */
export class NeverServed extends Failure {
  override readonly name = "NeverServed";
}

/** Why one remotedaemon no longer runs. */
type RunEnd =
  | { readonly kind: "ended"; readonly reason: string; readonly servedMs: number }
  /** Another process has taken over. */
  | { readonly kind: "replaced" };

/** What a supervisor supervises. */
export interface SupervisorOptions {
  readonly repository: Repository;
  /** Folder in which git-annex runs: the work tree, or the git directory of a bare repository. */
  readonly folder: string;
  /** Gets each event. */
  readonly emit: (event: UpEvent) => void;
}

/** Keeps one repository served. */
export class Supervisor {
  #repository: Repository;
  #folder: string;
  #emit: (event: UpEvent) => void;
  #remotes: Remotes;
  #address: string | undefined;

  constructor({ repository, folder, emit }: SupervisorOptions) {
    this.#repository = repository;
    this.#folder = folder;
    this.#emit = emit;
    this.#remotes = new Remotes(repository, emit);
  }

  /**
   * Keeps the repository served until the signal aborts. What it has started has ended when it returns.
   *
   * @throws The signal's reason. @throws {RepositoryGone} @throws {NeverServed}
   * @throws {EnableError} if the repository cannot get an address.
   */
  async run(signal: AbortSignal): Promise<never> {
    using entry = await this.#claim(signal);
    if (entry.left) await this.#endLeftBehind(entry.left, signal);
    let hasServed = false;
    for (let failures = 0;;) {
      await this.#untilFree(entry, signal);
      entry.state = "starting";
      const end = await this.#serve(entry, signal);
      if (end.kind === "replaced") continue;
      hasServed ||= end.servedMs > 0;
      failures = end.servedMs >= STEADY_MS ? 1 : failures + 1;
      if (!hasServed && failures === FIRST_ATTEMPTS) {
        throw new NeverServed(`${failures} attempts to serve have failed; ${end.reason}`, {
          hint: "run git-annex-p2p-iroh doctor",
        });
      }
      const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (failures - 1), LONGEST_PAUSE_MS);
      entry.state = "pausing";
      this.#emit({ event: "restarting", reason: end.reason, seconds: pauseMs / 1000 });
      await delay(pauseMs, signal);
    }
  }

  /** Waits until no other `up` runs here, and makes the entry of this one. */
  async #claim(signal: AbortSignal): Promise<UpEntry> {
    for (let told = 0;;) {
      const entry = await UpEntry.claim(this.#repository);
      if (entry) return entry;
      const other = await runningUp(this.#repository);
      if (other && other.pid !== told) {
        told = other.pid;
        this.#emit({ event: "waiting", pid: other.pid, by: describeUp(other) });
      }
      await this.#nextLook(signal);
    }
  }

  /** Ends what an earlier `up` has left, which may take 17 s. The state stays `starting`: nothing serves yet. */
  async #endLeftBehind(left: LeftBehind, signal: AbortSignal): Promise<void> {
    const timer = setTimeout(() => {
      const by = "git annex remotedaemon of an up that was killed";
      this.#emit({ event: "waiting", pid: left.group, by });
    }, LEFT_TOLD_AFTER_MS);
    try {
      await abortable(endLeftBehind(left, this.#repository.gitDir), signal);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits until no process serves the repository. */
  async #untilFree(entry: UpEntry, signal: AbortSignal): Promise<void> {
    for (let told = 0;;) {
      this.#checkFolder();
      const server = await findServer(this.#repository).catch((error) => {
        debug(() => `cannot tell who serves: ${error}`);
      });
      if (!server) return;
      entry.state = "waiting";
      if (server.pid !== told) {
        told = server.pid;
        this.#emit({ event: "waiting", ...await whoRuns(server.pid) });
      }
      await this.#nextLook(signal);
    }
  }

  /** Serves until remotedaemon or its listener ends, or another process takes over. */
  async #serve(entry: UpEntry, signal: AbortSignal): Promise<RunEnd> {
    const address = await ensureEnabled(this.#repository, this.#folder, signal);
    if (address !== this.#address) this.#emit({ event: "address", address });
    this.#address = address;
    const { gitDir } = this.#repository;
    const config = new Stamp(join(gitDir, "config"), addressListPath(this.#repository));
    try {
      await using daemon = RemoteDaemon.start(this.#folder, gitDir, {
        message: (message) => this.#remotes.hear(message),
        // While it is ended, it complains of each transfer that is cut off.
        said: (line) => signal.aborted ? debug(() => line) : this.#hearText(line),
      });
      entry.group = daemon.group;
      return await this.#watch(daemon, config, entry, signal);
    } finally {
      await this.#remotes.forget(!signal.aborted);
    }
  }

  async #watch(
    daemon: RemoteDaemon,
    config: Stamp,
    entry: UpEntry,
    signal: AbortSignal,
  ): Promise<RunEnd> {
    const startedAt = performance.now(), ended = new AbortController();
    daemon.ended.then((end) => ended.abort(new DaemonEnded(end)));
    const wakes = AbortSignal.any([signal, ended.signal]);
    const listener = new ListenerWatch(this.#repository, daemon.group);
    const fetches = new FetchWatch(daemon.group);
    await using refetches = new Refetches(
      this.#folder,
      (remote, isSuccess) => this.#remotes.fetched(remote, isSuccess),
    );
    let readyAt: number | undefined, known: ListenerState | undefined;
    const over = (reason: string): RunEnd => {
      const servedMs = readyAt === undefined ? 0 : performance.now() - readyAt;
      return { kind: "ended", reason, servedMs };
    };
    const words = () => daemon.lastWords && `: ${daemon.lastWords}`;
    for (;;) {
      try {
        await this.#nextLook(wakes);
      } catch (error) {
        if (error instanceof DaemonEnded) return over(error.message);
        throw error;
      }
      if (config.hasChanged()) {
        daemon.reload();
        this.#remotes.reread();
      }
      if (this.#remotes.isFetching) {
        for (const remote of await fetches.look()) refetches.start(remote);
      }
      for (const remote of this.#remotes.takeDue()) refetches.start(remote);
      const state = await listener.look(signal);
      switch (state.kind) {
        case "none":
          if (performance.now() - startedAt < START_TIMEOUT_MS) break;
          return over(`git annex remotedaemon has started no listener${words()}`);
        case "ready":
          if (state === known) break;
          readyAt ??= performance.now();
          entry.state = "serving";
          this.#emit({ event: "ready", pid: state.pid });
          break;
        case "ended":
          return over(`the listener, process ${state.pid}, has ended${readyAt ? "" : words()}`);
        case "replaced":
          return { kind: "replaced" };
      }
      known = state;
    }
  }

  /** Waits for the next look. @throws {RepositoryGone} if the repository is gone then. */
  async #nextLook(signal: AbortSignal): Promise<void> {
    await delay(LOOK_INTERVAL_MS, signal);
    this.#checkFolder();
  }

  #checkFolder(): void {
    try {
      Deno.statSync(this.#repository.gitDir);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) return; // a disk may fail for a moment
      throw new RepositoryGone(`the repository ${this.#folder} is gone`, {
        hint: "run git-annex-p2p-iroh up where it is now",
      });
    }
  }

  /** Passes on what git-annex says, but not what is said elsewhere. */
  #hearText(line: string): void {
    if (line.startsWith(PROGRAM) || isRoutine(line)) debug(() => line);
    else this.#emit({ event: "message", text: line.trim() });
  }
}

/** Tells whether a line is one that git prints at each fetch: `From URL`, ` * [new branch] main -> bob/main`. */
function isRoutine(line: string): boolean {
  return /^\S+ p2p-annex::\S+$|^ [ *+t-] ?\S.* -> |^warning: no common commits$/.test(line);
}

/** remotedaemon has ended by itself. */
class DaemonEnded extends Error {
  constructor({ exitStatus, lastWords }: DaemonEnd) {
    const words = lastWords ? `: ${lastWords}` : ` (exit status ${exitStatus})`;
    super(`git annex remotedaemon has ended${words}`);
  }
}

/** Tells whether files have changed. */
class Stamp {
  #paths: readonly string[];
  #seen: string;

  constructor(...paths: readonly string[]) {
    this.#paths = paths;
    this.#seen = this.#look();
  }

  /** Tells whether they have changed since the last call. */
  hasChanged(): boolean {
    const before = this.#seen;
    this.#seen = this.#look();
    return this.#seen !== before;
  }

  #look(): string {
    return this.#paths.map(fileState).join("\n");
  }
}
