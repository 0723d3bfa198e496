/** Tells which process serves a repository, also one that no `up` has started. */

import { isRemoteDaemon } from "../connect/started_by.ts";
import { servingOf } from "../listener/listener_file.ts";
import { processInfo } from "../platform/processes.ts";
import type { Repository } from "../repository/repository.ts";

/** Maximum number of processes between a listener and what the user has started: git-annex, git, a script. */
const MAX_ANCESTORS = 4;

/** A listener that runs. */
export interface Server {
  readonly pid: number;
  /** Its process group; undefined if it is not known, as of a process in another container. */
  readonly group: number | undefined;
}

/** Returns the listener of a repository; undefined if there is none. @throws What the system says. */
export async function findServer(repository: Repository): Promise<Server | undefined> {
  const serving = await servingOf(repository);
  if (!serving || !("pid" in serving)) return undefined; // one on another host is replaced by one here
  const { pid } = serving;
  return { pid, group: (await processInfo(pid))?.group };
}

/** Returns what the user knows of a listener: which command of git-annex runs it, in which process. */
export async function whoRuns(pid: number): Promise<{ pid: number; by: string }> {
  let info = await processInfo(pid), daemon: number | undefined;
  for (let i = 0; info && i < MAX_ANCESTORS; i++, info = await processInfo(info.parent)) {
    if (/git-annex assistant\b/.test(info.command)) {
      return { pid: info.pid, by: "git annex assistant" };
    }
    if (isRemoteDaemon(info.command)) daemon ??= info.pid;
  }
  return daemon ? { pid: daemon, by: "git annex remotedaemon" } : { pid, by: "another program" };
}
