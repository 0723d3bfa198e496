/**
 * The only module that writes to stderr. The rules:
 *
 * - A message is one line: `git-annex-p2p-iroh: what happened; what to do`, lower case, no full stop.
 * - It has no secret and no stack trace. Only the debug log has the stack trace of a bug.
 * - It has no control characters, since parts of it may come from a peer or a file.
 * - `GIT_ANNEX_P2P_IROH_LOG=debug` adds a debug log.
 */

import { variable } from "./environment.ts";
import { Failure, systemReason } from "./failure.ts";
import { printable } from "./printable.ts";
import { ISSUES_URL, PROGRAM } from "./program.ts";

/** What the user can do about a bug: the hint of each error that the program does not understand. */
export const REPORT_BUG =
  `please report it at ${ISSUES_URL} with the output of GIT_ANNEX_P2P_IROH_LOG=debug`;

/** Returns the line that the user reads when a command fails with `error`, and the exit status. */
export function describeFailure(error: unknown): { line: string; exitStatus: number } {
  if (error instanceof Failure) {
    const line = error.hint ? `${error.message}; ${error.hint}` : error.message;
    return { line, exitStatus: error.exitStatus };
  }
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return {
    line: `a bug in this program, ${text}; ${REPORT_BUG}`,
    exitStatus: 1,
  };
}

/** Returns why a step failed, with the hint, for use in a message. */
export function reasonWithHint(error: unknown): string {
  return error instanceof Failure ? describeFailure(error).line : systemReason(error);
}

/** Writes a message for the user. */
export function say(message: string): void {
  writeLine(`${PROGRAM}: ${printable(message)}`);
}

/** Writes why the program ends. @returns The exit status. */
export function sayFailure(error: unknown): number {
  const { line, exitStatus } = describeFailure(error);
  if (error instanceof Failure && error.quiet) debug(() => line);
  else say(line);
  if (!(error instanceof Failure) && error instanceof Error) debug(() => error.stack ?? "");
  return exitStatus;
}

/** Writes to the debug log. Without one, `message` is not called. */
export function debug(message: () => string): void {
  if (!hasDebugLog()) return;
  const milliseconds = performance.now().toFixed(1).padStart(8);
  writeLine(`${PROGRAM}[${Deno.pid}] ${milliseconds} ms ${printable(message())}`);
}

let isDebug: boolean | undefined;

function hasDebugLog(): boolean {
  isDebug ??= variable("GIT_ANNEX_P2P_IROH_LOG") === "debug";
  return isDebug;
}

function writeLine(line: string): void {
  let bytes = new TextEncoder().encode(line + "\n");
  try {
    while (bytes.length > 0) bytes = bytes.subarray(Deno.stderr.writeSync(bytes));
  } catch {
    // stderr is closed or full. No other output remains, and the peer's bytes matter more.
  }
}
