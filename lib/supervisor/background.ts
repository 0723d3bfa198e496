/** Starts `up` in the background, or waits for one that a service manager has started. */

import { abortable, delay } from "../async/abort.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { PROGRAM } from "../console/program.ts";
import { processInfo, signalGroup, signalProcess } from "../platform/processes.ts";
import type { Repository } from "../repository/repository.ts";
import { runningUp, upLogPath, type UpStatus } from "./entry.ts";
import { findServer } from "./server.ts";

/** Timeout for an `up` to serve or to wait. It gives up after four attempts, of a second and more. */
const START_TIMEOUT_MS = 60_000;
/** Interval between looks whether it does. */
const LOOK_INTERVAL_MS = 100;
/** Timeout for the last words of one that has ended. */
const LAST_WORDS_TIMEOUT_MS = 1_000;

/** An `up` that was started does not serve. */
export class NotStarted extends Failure {
  override readonly name = "NotStarted";
}

/**
 * Makes sure that an `up` runs in a repository, and waits until it serves or waits for another process's end.
 *
 * @param folder Folder of the repository, in which it is started.
 * @returns The `up`; `isNew` tells whether it was started now.
 * @throws {NotStarted} with the reason that `up` gives.
 */
export async function startInBackground(
  repository: Repository,
  folder: string,
  signal: AbortSignal,
): Promise<{ up: UpStatus; isNew: boolean }> {
  if (await runningUp(repository)) {
    return { up: await untilServing(repository, signal), isNew: false };
  }
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(Deno.build.standalone ? Deno.execPath() : PROGRAM, {
      args: ["up"],
      cwd: folder,
      stdin: "null",
      stdout: "null",
      stderr: "piped", // for its last words, if it ends; otherwise they are in its log
      detached: true,
    }).spawn();
  } catch (error) {
    throw new NotStarted(`cannot run ${PROGRAM}, ${systemReason(error)}`, {
      hint: "put it into a folder on PATH",
    });
  }
  child.unref();
  const ended = new AbortController();
  child.status.then(() => ended.abort());
  const words = new Response(child.stderr).text();
  words.catch(() => {}); // it goes on, and this process no longer listens
  try {
    const either = AbortSignal.any([signal, ended.signal]);
    const up = await untilServing(repository, either);
    // If two start one at once, the later one would wait for the first, and take over from it.
    const isNew = (await processInfo(up.pid))?.group === child.pid;
    if (!isNew) signalGroup(child.pid, "SIGTERM");
    return { up, isNew };
  } catch (error) {
    if (!ended.signal.aborted || signal.aborted) throw error;
    const timeout = AbortSignal.timeout(LAST_WORDS_TIMEOUT_MS);
    const text = await abortable(words, timeout).catch(() => "");
    const last = text.trim().split("\n").at(-1)!.replace(`${PROGRAM}: `, "");
    throw new NotStarted(last || "up has ended at once, without a reason");
  }
}

/**
 * Makes sure that a process serves a repository: one that does so already, or an `up` in the background.
 *
 * @returns The `up`, if it was started now. @throws {NotStarted}
 */
export async function ensureServed(
  repository: Repository,
  folder: string,
  signal: AbortSignal,
): Promise<UpStatus | undefined> {
  if (await findServer(repository)) return undefined;
  const { up, isNew } = await startInBackground(repository, folder, signal);
  return isNew ? up : undefined;
}

/** Ends the `up` of a repository, if one runs on this host, and waits until nothing serves the repository. */
export async function stopUp(repository: Repository, signal: AbortSignal): Promise<void> {
  const up = await runningUp(repository);
  if (up) signalProcess(up.pid, "SIGTERM");
  while (await runningUp(repository) || await findServer(repository)) {
    await delay(LOOK_INTERVAL_MS, signal);
  }
}

/** Waits until an `up` serves, or waits for another process's end. @throws {NotStarted} after a minute. */
export async function untilServing(
  repository: Repository,
  signal: AbortSignal,
): Promise<UpStatus> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadline) {
    signal.throwIfAborted();
    const up = await runningUp(repository);
    if (up?.state === "serving" || up?.state === "waiting") return up;
    await delay(LOOK_INTERVAL_MS, signal);
  }
  throw new NotStarted(`up does not serve this repository after ${START_TIMEOUT_MS / 1000} s`, {
    hint: `look for the reason in ${upLogPath(repository)}`,
  });
}
