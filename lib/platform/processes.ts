/** Looks at processes: by proc(5) on Linux, by ps(1) elsewhere. Windows has neither, so none is known there. */

import process from "node:process";

/** Interval between looks at a group whose end is awaited. */
const LOOK_INTERVAL_MS = 50;

/** A process that exists. */
export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  /** True if it has ended, but its parent has not collected its exit status. */
  readonly isZombie: boolean;
  /** Its command line, with spaces between the words. */
  readonly command: string;
}

/** Returns what is known of a process; undefined if there is none. */
export async function processInfo(pid: number): Promise<ProcessInfo | undefined> {
  if (Deno.build.os === "linux") return await readProc(pid);
  return (await ps("-p", String(pid)))[0];
}

/** Tells whether a process group has a member that has not ended. */
export async function isGroupAlive(group: number): Promise<boolean> {
  if (!signalGroup(group, 0)) return false; // this is faster than to look at each process
  return (await groupMembers(group)).length > 0;
}

/** Waits until a process group has no members that run. @returns False if it has after that time. */
export async function groupEnds(group: number, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (await isGroupAlive(group)) {
    if (performance.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
  }
  return true;
}

/** Returns the members of a process group that have not ended. */
export async function groupMembers(group: number): Promise<ProcessInfo[]> {
  const all = Deno.build.os === "linux" ? await readAllProc() : await ps("-ax");
  return all.filter((found) => found.group === group && !found.isZombie);
}

/**
 * Returns a number that grows with what a process does: bytes that it reads and writes, and ticks of the
 * processor. Only Linux tells; 0 if the process has ended.
 */
export async function processActivity(pid: number): Promise<number> {
  try {
    const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
    const io = await Deno.readTextFile(`/proc/${pid}/io`);
    const [user, system] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(11, 13);
    const bytes = [...io.matchAll(/^[rw]char: (\d+)$/gm)].map(([, count]) => Number(count));
    return Number(user) + Number(system) + bytes.reduce((sum, count) => sum + count, 0);
  } catch {
    return 0;
  }
}

/**
 * Sends a signal to all members of a process group.
 *
 * @param signal 0 only tells whether there are members.
 * @returns False if it has no members.
 */
export function signalGroup(group: number, signal: Deno.Signal | 0): boolean {
  return signalProcess(-group, signal);
}

/** Sends a signal to a process. @returns False if there is none. */
export function signalProcess(pid: number, signal: Deno.Signal | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    // EPERM: macOS says so of a group that has only zombies.
    const { code } = error as { code?: string };
    if (code !== "ESRCH" && code !== "EPERM") throw error;
    return false;
  }
}

async function readAllProc(): Promise<ProcessInfo[]> {
  const found: ProcessInfo[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    const info = /^\d+$/.test(name) ? await readProc(Number(name)) : undefined;
    if (info) found.push(info);
  }
  return found;
}

async function readProc(pid: number): Promise<ProcessInfo | undefined> {
  try {
    const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
    const command = await Deno.readTextFile(`/proc/${pid}/cmdline`);
    // The second field is the program's name in parentheses, and may have spaces and parentheses.
    const [state, parent, group] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return {
      pid,
      parent: Number(parent),
      group: Number(group),
      isZombie: state === "Z" || state === "X",
      command: command.replaceAll("\0", " ").trimEnd(),
    };
  } catch {
    return undefined; // it has ended
  }
}

async function ps(...which: string[]): Promise<ProcessInfo[]> {
  if (Deno.build.os === "windows") return [];
  // Without `-ww`, macOS cuts each line at 79 characters.
  const args = ["-ww", ...which, "-o", "pid=,ppid=,pgid=,stat=,args="];
  const { stdout } = await new Deno.Command("ps", { args, stdin: "null", stderr: "null" }).output();
  const lines = new TextDecoder().decode(stdout).split("\n");
  return lines.flatMap((line) => {
    const [, pid, parent, group, state, command] =
      /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s*(.*)$/.exec(line) ?? [];
    if (!pid) return [];
    return [{
      pid: Number(pid),
      parent: Number(parent),
      group: Number(group),
      isZombie: state!.startsWith("Z"),
      command: command!,
    }];
  });
}
