/** Runs git and git-annex in a repository, with all that they start. */

import { abortable, LinkedSignal } from "../async/abort.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { groupEnds, signalGroup } from "../platform/processes.ts";
import { GitMissing, type GitRun } from "./repository.ts";

/** Timeout for a command of git-annex that asks no peer, which takes a second. */
const TIMEOUT_MS = 60_000;
/** Timeout for what was killed to be gone. */
const KILLED_TIMEOUT_MS = 2_000;

/** What begins a line that says why a command has failed. */
const REASON = /^(git-annex(-p2p-iroh)?|fatal|error): /;

/** How a command is run. */
export interface RunOptions {
  /** Text for its stdin. By default stdin is empty. */
  readonly stdin?: string;
  readonly timeoutMs?: number;
}

/** A command of git or git-annex cannot be run, does not end in time, or fails. */
export class CommandFailed extends Failure {
  override readonly name = "CommandFailed";
}

/** There is no git-annex on PATH. */
export class GitAnnexMissing extends Failure {
  override readonly name = "GitAnnexMissing";

  constructor() {
    super("git-annex is not on PATH", { hint: "install git-annex, or correct PATH" });
  }
}

/**
 * Runs git in a folder of the repository, as a process group. What it has started ends with it.
 *
 * @param args The words after `git`.
 * @throws {CommandFailed} if it cannot be run, or does not end in time. @throws {GitMissing}
 * @throws The signal's reason.
 */
export async function runIn(
  folder: string,
  args: readonly string[],
  signal: AbortSignal,
  { stdin, timeoutMs = TIMEOUT_MS }: RunOptions = {},
): Promise<GitRun> {
  const timeout = new CommandFailed(`${commandText(args)}: not done in ${timeoutMs / 1000} s`);
  using limit = new LinkedSignal([signal], { milliseconds: timeoutMs, reason: timeout });
  try {
    limit.signal.throwIfAborted();
    const child = new Deno.Command("git", {
      args: [...args],
      cwd: folder,
      stdin: stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
      detached: true, // a process group, to end git together with git-annex
    }).spawn();
    try {
      if (stdin !== undefined) {
        // If it ends without reading, its exit status tells why.
        new Blob([stdin]).stream().pipeTo(child.stdin).catch(() => {});
      }
      const { code, stdout, stderr } = await abortable(child.output(), limit.signal);
      const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
      return { code, stdout: out!, stderr: err! };
    } finally {
      if (signalGroup(child.pid, "SIGKILL")) await groupEnds(child.pid, KILLED_TIMEOUT_MS);
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error === timeout) throw error;
    const isMissing = error instanceof Deno.errors.NotFound && !error.message.includes("cwd");
    if (isMissing) throw new GitMissing();
    throw new CommandFailed(`${commandText(args)} failed: ${systemReason(error)}`, {
      cause: error,
    });
  }
}

/**
 * Runs git as {@linkcode runIn} does.
 *
 * @returns Its stdout.
 * @throws {CommandFailed} also if its exit status is not 0. @throws {GitMissing} @throws {GitAnnexMissing}
 */
export async function outputIn(
  folder: string,
  args: readonly string[],
  signal: AbortSignal,
  options: RunOptions = {},
): Promise<string> {
  const run = await runIn(folder, args, signal, options);
  if (run.code === 0) return run.stdout;
  if (args[0] === "annex" && /^git: 'annex' /.test(run.stderr)) throw new GitAnnexMissing();
  throw new CommandFailed(`${commandText(args)} failed: ${reasonOf(run)}`);
}

/** Returns why a command of git or git-annex has failed, in its own words. */
export function reasonOf({ code, stderr }: Pick<GitRun, "code" | "stderr">): string {
  const lines = stderr.split("\n").map((line) => line.trim()).filter((line) => line);
  const reason = lines.find((line) => REASON.test(line)) ?? lines[0] ?? `exit status ${code}`;
  return reason.replace(REASON, "");
}

/** Returns a command for people. It has no secret, since those are given on stdin. */
function commandText(args: readonly string[]): string {
  return ["git", ...args].join(" ");
}
