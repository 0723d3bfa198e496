/** Fetches from a git remote, again if that hangs or fails. */

import { delay } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { groupEnds, signalGroup } from "../platform/processes.ts";
import { reasonOf } from "./git_annex.ts";

/** Interval between looks at a fetch. */
const LOOK_INTERVAL_MS = 50;
/** Timeout for what was killed to be gone. */
const KILLED_TIMEOUT_MS = 2_000;
/** Maximum length of what is kept of git's stderr: enough for its last words. */
const MAX_WORDS = 4_096;
/**
 * Runs git until stdin ends: then this process has ended, or has had enough. The shell and git are a process group
 * of their own.
 */
const SCRIPT = `exec 3<&0
(read -r line; kill -s KILL 0) <&3 &
git fetch --progress "$1" </dev/null
status=$?
trap "" TERM
kill -s TERM 0
exit "$status"`;

/** When a fetch counts as hanging, and how often it is tried. */
export interface FetchLimits {
  readonly attempts: number;
  /** Time without progress. git reports progress once a second, also that of the other end. */
  readonly hungMs: number;
  /** Returns the time in milliseconds; tests pass another clock. */
  readonly now?: () => number;
}

/** What has come of a fetch. */
export interface FetchOutcome {
  readonly isSuccess: boolean;
  /** Why it has failed, in git's words. */
  readonly reason: string;
}

/**
 * Fetches from a remote. git-annex's server may drop git's last bytes, with any transport. Then git fails, or waits
 * for them for ever. Such a fetch is ended and tried again.
 *
 * @param folder Folder of the repository.
 * @param env Further variables of git's environment.
 * @throws The signal's reason.
 */
export async function fetchAgain(
  folder: string,
  remote: string,
  signal: AbortSignal,
  limits: FetchLimits,
  env: Readonly<Record<string, string>> = {},
): Promise<FetchOutcome> {
  const hung = { isSuccess: false, reason: `it made no progress for ${limits.hungMs / 1000} s` };
  let outcome: FetchOutcome = hung;
  for (let attempt = 1; attempt <= limits.attempts && !outcome.isSuccess; attempt++) {
    const once = await fetchOnce(folder, remote, signal, limits, env);
    outcome = once === "hung" ? hung : once;
    debug(() => `git fetch ${remote}, attempt ${attempt}: ${JSON.stringify(outcome)}`);
  }
  return outcome;
}

async function fetchOnce(
  folder: string,
  remote: string,
  signal: AbortSignal,
  { hungMs, now = () => performance.now() }: FetchLimits,
  env: Readonly<Record<string, string>>,
): Promise<FetchOutcome | "hung"> {
  let words = "", progressAt = now(); // before git can do anything
  const child = new Deno.Command("sh", {
    args: ["-c", SCRIPT, "sh", remote],
    cwd: folder,
    env: { ...env },
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
    detached: true,
  }).spawn();
  const stdin = child.stdin.getWriter();
  stdin.closed.catch(() => {}); // the shell has ended
  const reading = child.stderr.pipeThrough(new TextDecoderStream()).pipeTo(
    new WritableStream({
      write(text) {
        words = (words + text).slice(-MAX_WORDS);
        progressAt = now();
      },
    }),
  ).catch(() => {}); // it was killed
  const ended = new AbortController();
  let code = 0;
  child.status.then(async (status) => {
    await reading;
    code = status.code;
    ended.abort();
  });
  const wakes = AbortSignal.any([signal, ended.signal]);
  try {
    while (!ended.signal.aborted) {
      if (now() - progressAt > hungMs) return "hung";
      await delay(LOOK_INTERVAL_MS, wakes).catch(() => {}); // the loop ends, or the next line throws
      signal.throwIfAborted();
    }
    const stderr = words.replaceAll("\r", "\n");
    return { isSuccess: code === 0, reason: code === 0 ? "" : reasonOf({ code, stderr }) };
  } finally {
    stdin.abort().catch(() => {}); // the shell has ended
    if (signalGroup(child.pid, "SIGKILL")) await groupEnds(child.pid, KILLED_TIMEOUT_MS);
  }
}
