/**
 * Keeps a repository served: starts `git annex remotedaemon`, starts it again when it or its listener ends, and
 * lets it know of new remotes. If another process serves the repository, waits for its end.
 *
 * One look twice a second finds all that happens: what git-annex's files say, which process serves, whether the
 * repository is there. Looks work on every file system, and need no clean-up, unlike watches.
 */

import { join } from "node:path";
import { delay } from "../async/abort.ts";
import { Failure } from "../console/failure.ts";
import { PROGRAM } from "../console/program.ts";
import { debug } from "../console/stderr.ts";
import { requestStatus } from "../control/client.ts";
import { locateControlSocket } from "../control/locator.ts";
import type { Repository } from "../repository/repository.ts";
import { addressListPath, ensureEnabled } from "./enable.ts";
import { describeUp, runningUp, UpEntry } from "./entry.ts";
import type { UpEvent } from "./event.ts";
import { FetchWatch } from "./fetch_watch.ts";
import { type DaemonEnd, RemoteDaemon } from "./remote_daemon.ts";
import { Remotes } from "./remotes.ts";
import { findServer, type Server, whoRuns } from "./server.ts";

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
/** Timeout for a listener to answer at its control socket. One of another version never does, but serves. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Time limits of a supervisor. Tests pass shorter ones. */
export interface SupervisorLimits {
  readonly lookIntervalMs: number;
  readonly firstPauseMs: number;
  readonly longestPauseMs: number;
  readonly startTimeoutMs: number;
}

const LIMITS: SupervisorLimits = {
  lookIntervalMs: LOOK_INTERVAL_MS,
  firstPauseMs: FIRST_PAUSE_MS,
  longestPauseMs: LONGEST_PAUSE_MS,
  startTimeoutMs: START_TIMEOUT_MS,
};

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
  readonly limits?: Partial<SupervisorLimits>;
}

/** Keeps one repository served. */
export class Supervisor {
  #repository: Repository;
  #folder: string;
  #emit: (event: UpEvent) => void;
  #limits: SupervisorLimits;
  #remotes: Remotes;
  #address: string | undefined;

  constructor({ repository, folder, emit, limits = {} }: SupervisorOptions) {
    this.#repository = repository;
    this.#folder = folder;
    this.#emit = emit;
    this.#limits = { ...LIMITS, ...limits };
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
      const pauseMs = Math.min(
        this.#limits.firstPauseMs * 2 ** (failures - 1),
        this.#limits.longestPauseMs,
      );
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

  /** Waits until no process serves the repository. */
  async #untilFree(entry: UpEntry, signal: AbortSignal): Promise<void> {
    for (let told = 0;;) {
      this.#checkFolder();
      const server = await this.#findServer();
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
      await using daemon = RemoteDaemon.start(this.#folder, {
        message: (message) => this.#remotes.hear(message),
        said: (line) => this.#hearText(line),
      });
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
    const wakes = AbortSignal.any([signal, ended.signal]);
    let reason: string | undefined;
    daemon.ended.then((end) => {
      reason = endText(end);
      ended.abort();
    });
    let server: Server | undefined, foundAt = 0, readyPid = 0, readyAt: number | undefined;
    const over = (reason: string): RunEnd => ({
      kind: "ended",
      reason,
      servedMs: readyAt === undefined ? 0 : performance.now() - readyAt,
    });
    const fetches = new FetchWatch(daemon.group);
    const words = () => daemon.lastWords && `: ${daemon.lastWords}`;
    for (;;) {
      await this.#nextLook(wakes).catch((error) => {
        if (error !== ended.signal.reason) throw error;
      });
      if (reason !== undefined) return over(reason);
      if (config.hasChanged()) {
        daemon.reload();
        this.#remotes.reread();
      }
      if (this.#remotes.isFetching) await fetches.look();
      const found = await this.#findServer(server);
      if (found && found.pid !== server?.pid) {
        if (found.group !== undefined && found.group !== daemon.group) return { kind: "replaced" };
        foundAt = performance.now();
      }
      if (!found && server) {
        return over(`the listener, process ${server.pid}, has ended${readyAt ? "" : words()}`);
      }
      if (!found && performance.now() - startedAt > this.#limits.startTimeoutMs) {
        return over(`git annex remotedaemon has started no listener${words()}`);
      }
      server = found;
      if (server && server.pid !== readyPid && await this.#isReady(server, foundAt, signal)) {
        readyPid = server.pid;
        readyAt ??= performance.now();
        entry.state = "serving";
        this.#emit({ event: "ready", pid: server.pid });
      }
    }
  }

  /** Finds the listener. @param otherwise What to return if a disk fails for a moment. */
  async #findServer(otherwise?: Server): Promise<Server | undefined> {
    try {
      return await findServer(this.#repository);
    } catch (error) {
      debug(() => `cannot tell who serves: ${error}`);
      return otherwise;
    }
  }

  /** Tells whether peers can connect to a listener: then it answers at its control socket. */
  async #isReady({ pid }: Server, foundAt: number, signal: AbortSignal): Promise<boolean> {
    if (performance.now() - foundAt > ANSWER_TIMEOUT_MS) return true;
    const locator = locateControlSocket(this.#repository);
    if (!locator) return false;
    try {
      const status = await requestStatus(locator, signal) as { pid?: unknown };
      return status.pid === pid;
    } catch (error) {
      signal.throwIfAborted();
      debug(() => `the listener does not answer: ${error}`);
      return false;
    }
  }

  /** Waits for the next look. @throws {RepositoryGone} if the repository is gone then. */
  async #nextLook(signal: AbortSignal): Promise<void> {
    await delay(this.#limits.lookIntervalMs, signal);
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

function endText({ exitStatus, lastWords }: DaemonEnd): string {
  const words = lastWords ? `: ${lastWords}` : ` (exit status ${exitStatus})`;
  return `git annex remotedaemon has ended${words}`;
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
    return this.#paths.map((path) => {
      try {
        const { ino, size, mtime } = Deno.statSync(path);
        return `${ino} ${size} ${mtime?.getTime()}`;
      } catch (error) {
        return String(error); // not there
      }
    }).join("\n");
  }
}
