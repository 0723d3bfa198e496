/**
 * Ends a `git fetch` of remotedaemon that hangs. git-annex's server may drop git's last bytes, with any
 * transport. Then git waits for them for ever, and remotedaemon for git: it hears nothing more of that remote.
 *
 * A fetch hangs if its processes read, write and compute nothing for a minute. git sends something every five
 * seconds while it prepares what is fetched. A connection that is lost takes less than a minute, too: 25 seconds
 * until this program notices, and 20 to resume the transfer. Only Linux tells that much of a process.
 */

import { debug } from "../console/stderr.ts";
import {
  groupMembers,
  processActivity,
  type ProcessInfo,
  signalProcess,
} from "../platform/processes.ts";

/** Time without a sign of life after which a fetch counts as hanging. */
const HUNG_MS = 60_000;
/** Interval between looks at the processes of fetches. */
const LOOK_INTERVAL_MS = 5_000;

/** Time limits. Tests pass shorter ones. */
export interface FetchLimits {
  readonly hungMs: number;
  readonly lookIntervalMs: number;
  /** Returns the time in milliseconds; tests pass another clock. */
  readonly now: () => number;
}

/** Watches the fetches of one remotedaemon. */
export class FetchWatch {
  #group: number;
  #limits: FetchLimits;
  #lookedAt = -Infinity;
  /** What each fetch, by its process id, has done until when it was last seen to do something. */
  #seen = new Map<number, { activity: number; at: number }>();

  /** @param group Process group of remotedaemon. */
  constructor(group: number, limits: Partial<FetchLimits> = {}) {
    this.#group = group;
    this.#limits = {
      hungMs: HUNG_MS,
      lookIntervalMs: LOOK_INTERVAL_MS,
      now: () => performance.now(),
      ...limits,
    };
  }

  /** Ends fetches that hang. Call it often while there are any. @returns The names of their remotes. */
  async look(): Promise<string[]> {
    const now = this.#limits.now(), hanging: string[] = [];
    if (Deno.build.os !== "linux" || now - this.#lookedAt < this.#limits.lookIntervalMs) return [];
    this.#lookedAt = now;
    const members = await groupMembers(this.#group);
    const fetches = members.filter(({ command }) => /^(\S*\/)?git (.* )?fetch /.test(command));
    for (const pid of this.#seen.keys()) {
      if (!fetches.some((fetch) => fetch.pid === pid)) this.#seen.delete(pid);
    }
    for (const { pid, command } of fetches) {
      const processes = [pid, ...descendants(pid, members)];
      const activity = await this.#activityOf(processes);
      const seen = this.#seen.get(pid);
      if (!seen || seen.activity !== activity) this.#seen.set(pid, { activity, at: now });
      else if (now - seen.at >= this.#limits.hungMs) {
        debug(() => `git fetch, process ${pid}, hangs`);
        for (const each of processes) signalProcess(each, "SIGTERM");
        this.#seen.delete(pid);
        hanging.push(command.split(" ").at(-1)!);
      }
    }
    return hanging;
  }

  async #activityOf(processes: readonly number[]): Promise<number> {
    const all = await Promise.all(processes.map((pid) => processActivity(pid)));
    return all.reduce((sum, activity) => sum + activity, 0);
  }
}

/** Matches the command line of this program when it connects: the last argument is an address. */
const CONNECTS = / endpoint[a-z2-7]+$/;

/** Returns what a process has started, without this program: its own timers show nothing of the fetch. */
function descendants(pid: number, members: readonly ProcessInfo[]): number[] {
  const children = members.filter(({ parent }) => parent === pid);
  return children.filter(({ command }) => !CONNECTS.test(command))
    .flatMap((child) => [child.pid, ...descendants(child.pid, members)]);
}
