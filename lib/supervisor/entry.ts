/**
 * The file by which one `up` finds another of the same repository, and `status` and `doctor` find it:
 * `annex/p2p-iroh/up` in the git directory. The `up` that runs holds it.
 */

import { dirname, join } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { variable } from "../console/environment.ts";
import { debug } from "../console/stderr.ts";
import { HeldFile, readHeldFile } from "../platform/held_file.ts";
import { type HostId, parseHostId, thisHost, whereaboutsOf } from "../platform/host.ts";
import { isAlive } from "../platform/process_alive.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import type { Repository } from "../repository/repository.ts";
import type { LeftBehind } from "./remote_daemon.ts";

const MAX_FILE_BYTES = 4_096;

/**
 * - `starting`: remotedaemon has been started
 * - `serving`: peers can connect
 * - `waiting`: another process serves the repository
 * - `pausing`: remotedaemon has ended, and is started again after a pause
 */
export type UpState = "starting" | "serving" | "waiting" | "pausing";
const STATES: readonly string[] = ["starting", "serving", "waiting", "pausing"] satisfies UpState[];

/** An `up` that runs. */
export interface UpStatus {
  readonly pid: number;
  /** Time at which it started, in ISO 8601. */
  readonly since: string;
  /** Where it runs, for people. */
  readonly where: string;
  readonly state: UpState;
}

/** The entry of this process, until it is disposed of. */
export class UpEntry implements Disposable {
  /** What the last `up` may have left, if it was killed. */
  readonly left: LeftBehind | undefined;
  #file: HeldFile;
  #status: UpStatus & { group?: number };

  private constructor(file: HeldFile, status: UpStatus, left: LeftBehind | undefined) {
    this.#file = file;
    this.#status = status;
    this.left = left;
  }

  /** Makes the entry, unless another `up` runs; then returns undefined. @throws {Failure} if it cannot. */
  static async claim(repository: Repository): Promise<UpEntry | undefined> {
    const status: UpStatus = {
      pid: Deno.pid,
      since: new Date().toISOString(),
      where: await whereThisRuns(),
      state: "starting",
    };
    const path = entryPath(repository);
    try {
      await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
      const left = leftBehind(repository);
      const file = await HeldFile.claim(path, textOf(status));
      return file && new UpEntry(file, status, left);
    } catch (error) {
      throw new Failure(`cannot write ${path}, ${systemReason(error)}`, {
        hint: "serving needs a repository that can be written to",
      });
    }
  }

  set state(state: UpState) {
    this.#note({ state });
  }

  /** Notes the process group of remotedaemon, for the next `up`. */
  set group(group: number) {
    this.#note({ group });
  }

  #note(change: { state: UpState } | { group: number }): void {
    this.#status = { ...this.#status, ...change };
    try {
      this.#file.rewrite(textOf(this.#status));
    } catch (error) {
      debug(() => `cannot note the state: ${error}`); // the disk is full, and serving goes on
    }
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** Returns the `up` that runs in a repository; undefined if none does, or if its entry cannot be read. */
export async function runningUp(repository: Repository): Promise<UpStatus | undefined> {
  try {
    const { text, isHeld } = readHeldFile(entryPath(repository), MAX_FILE_BYTES);
    const entry = parse(text);
    if (!entry) return undefined;
    const { host, group: _, ...status } = entry;
    if (whereaboutsOf(host) === "here") {
      return isHeld ?? await isAlive(status.pid) ? status : undefined;
    }
    // Its process id means nothing here, but the lock may be seen.
    return isHeld ? { ...status, where: `on ${host.name}, ${status.where}` } : undefined;
  } catch (error) {
    debug(() => `no entry of up: ${error}`);
    return undefined;
  }
}

/** Returns what the last `up` may have left; undefined if that is not known. */
function leftBehind(repository: Repository): LeftBehind | undefined {
  try {
    const entry = parse(readHeldFile(entryPath(repository), MAX_FILE_BYTES).text);
    if (entry?.group === undefined || whereaboutsOf(entry.host) !== "here") return undefined;
    return { pid: entry.pid, group: entry.group };
  } catch (error) {
    debug(() => `no entry of an earlier up: ${error}`);
    return undefined;
  }
}

/** Returns what another `up` is called, and where it runs. */
export function describeUp({ where }: UpStatus): string {
  return `git-annex-p2p-iroh up (${where})`;
}

/** Returns the path of the log of `up`. */
export function upLogPath(repository: Repository): string {
  return join(listenerFolder(repository), "up.log");
}

function entryPath(repository: Repository): string {
  return join(listenerFolder(repository), "up");
}

function textOf(status: UpStatus): string {
  return JSON.stringify({ ...status, host: thisHost() }) + "\n";
}

/** What the file says. */
interface WrittenEntry extends UpStatus {
  readonly host: HostId;
  /** The process group of remotedaemon; undefined if none was started. */
  readonly group: number | undefined;
}

function parse(text: string): WrittenEntry | undefined {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined; // cleared, or about to be written
  }
  const { pid, since, where, state, group, host: writer } = value ?? {};
  const host = parseHostId(writer);
  const isValid = typeof pid === "number" && pid > 0 && typeof since === "string" &&
    typeof where === "string" && typeof state === "string" && STATES.includes(state);
  if (!isValid || !host) return undefined;
  const isGroup = Number.isInteger(group) && (group as number) > 1;
  const known = isGroup ? group as number : undefined;
  return { pid, since, where, state: state as UpState, host, group: known };
}

/** Returns where this process runs, for people: they need to know where to end it. */
async function whereThisRuns(): Promise<string> {
  if (Deno.stdout.isTerminal()) {
    const name = await Deno.readLink("/proc/self/fd/1").catch(() => ""); // not on macOS
    return name.startsWith("/dev/") ? `terminal ${name}` : "a terminal";
  }
  // systemd.exec(5), and launchd's variable for its jobs.
  if (variable("SYSTEMD_EXEC_PID") === String(Deno.pid)) return "systemd";
  if (variable("XPC_SERVICE_NAME")?.includes("git-annex-p2p-iroh")) return "launchd";
  return "in the background";
}
