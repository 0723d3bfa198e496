/** Fetches from a remote in place of remotedaemon, which does not try again. */

import { delay } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { groupEnds, signalGroup } from "../platform/processes.ts";
import { type FetchLimits, FetchWatch } from "./fetch_watch.ts";

/** Maximum number of attempts. About one fetch in ten hangs. */
const MAX_ATTEMPTS = 3;
/** Interval between looks at a fetch. */
const LOOK_INTERVAL_MS = 100;
/** Timeout for what was killed to be gone. */
const KILLED_TIMEOUT_MS = 2_000;
/**
 * Runs git until stdin ends: then this process has ended, or has had enough. The shell and git are a process group
 * of their own.
 */
const SCRIPT = `exec 3<&0
(read -r line; kill -s KILL 0) <&3 &
git fetch --quiet "$1" </dev/null
status=$?
trap "" TERM
kill -s TERM 0
exit "$status"`;

/** How git is run. Tests pass another environment, and shorter limits. */
export interface FetchOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly limits?: Partial<FetchLimits>;
}

/** Fetches from remotes, until it is disposed of. */
export class Refetches implements AsyncDisposable {
  #folder: string;
  #onEnd: (remote: string, isSuccess: boolean) => void;
  /** Those in progress, by remote. */
  #running = new Map<string, Promise<void>>();
  #disposed = new AbortController();

  /** @param onEnd Called at the end of each; not if it is disposed of before. */
  constructor(folder: string, onEnd: (remote: string, isSuccess: boolean) => void) {
    this.#folder = folder;
    this.#onEnd = onEnd;
  }

  /** Fetches from a remote, unless that is in progress. */
  start(remote: string): void {
    if (this.#running.has(remote)) return;
    const { signal } = this.#disposed;
    const running = fetchAgain(this.#folder, remote, signal).then(
      (isSuccess) => this.#onEnd(remote, isSuccess),
      (error) => debug(() => `git fetch ${remote}: ${error}`),
    ).finally(() => this.#running.delete(remote));
    this.#running.set(remote, running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed.abort();
    await Promise.all(this.#running.values());
  }
}

/**
 * Fetches from a remote, up to three times if that hangs.
 *
 * @param folder Folder of the repository.
 * @returns Whether it has succeeded.
 * @throws The signal's reason.
 */
export async function fetchAgain(
  folder: string,
  remote: string,
  signal: AbortSignal,
  options: FetchOptions = {},
): Promise<boolean> {
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const outcome = await fetchOnce(folder, remote, signal, options);
    debug(() => `git fetch ${remote}, attempt ${attempt}: ${outcome}`);
    if (outcome !== "hung") return outcome === "done";
  }
  return false;
}

async function fetchOnce(
  folder: string,
  remote: string,
  signal: AbortSignal,
  { env = {}, limits }: FetchOptions,
): Promise<"done" | "failed" | "hung"> {
  const child = new Deno.Command("sh", {
    args: ["-c", SCRIPT, "sh", remote],
    cwd: folder,
    env: { ...env },
    stdin: "piped",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
  const stdin = child.stdin.getWriter();
  stdin.closed.catch(() => {}); // the shell has ended
  const ended = new AbortController();
  let isDone = false;
  child.status.then(({ success }) => {
    isDone = success;
    ended.abort();
  });
  const wakes = AbortSignal.any([signal, ended.signal]);
  const watch = new FetchWatch(child.pid, limits);
  let hasHung = false;
  try {
    while (!ended.signal.aborted) {
      if ((await watch.look()).length > 0) hasHung = true;
      await delay(LOOK_INTERVAL_MS, wakes).catch(() => {}); // the loop ends, or the next line throws
      signal.throwIfAborted();
    }
    return isDone ? "done" : hasHung ? "hung" : "failed";
  } finally {
    stdin.abort().catch(() => {}); // the shell has ended
    if (signalGroup(child.pid, "SIGKILL")) await groupEnds(child.pid, KILLED_TIMEOUT_MS);
  }
}
