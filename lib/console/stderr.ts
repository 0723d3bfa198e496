/**
 * The only module that writes to stderr. The rules:
 *
 * - one line a message, `git-annex-p2p-iroh: what happened; what to do`, lower case, no full stop;
 * - never a stack trace (but for a bug, and then only in the debug log), never a secret;
 * - control characters are taken out, since parts of a message may come from a peer or a file;
 * - `GIT_ANNEX_P2P_IROH_LOG=debug` adds lines for whoever looks for a fault.
 */

import { Failure } from "./failure.ts";

const PROGRAM = "git-annex-p2p-iroh";
const MAX_LINE_CHARACTERS = 2000;

/** One line of printable text: control characters become spaces, and what is too long is cut. */
export function printable(text: string, maxCharacters: number = MAX_LINE_CHARACTERS): string {
  const line = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
  return line.length > maxCharacters ? `${line.slice(0, maxCharacters - 1)}…` : line;
}

/** The line people read when a command ends with `error`, and the exit status that goes with it. */
export function describeFailure(error: unknown): { line: string; exitStatus: number } {
  if (error instanceof Failure) {
    const line = error.hint ? `${error.message}; ${error.hint}` : error.message;
    return { line, exitStatus: error.exitStatus };
  }
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return {
    line: `a bug in this program, ${text}; please report it, with GIT_ANNEX_P2P_IROH_LOG=debug`,
    exitStatus: 1,
  };
}

/** Tell people something. */
export function say(message: string): void {
  writeLine(`${PROGRAM}: ${printable(message)}`);
}

/** Tell people why the program ends, and return the exit status. */
export function sayFailure(error: unknown): number {
  const { line, exitStatus } = describeFailure(error);
  if (error instanceof Failure && error.quiet) debug(() => line);
  else say(line);
  if (!(error instanceof Failure) && error instanceof Error) debug(() => error.stack ?? "");
  return exitStatus;
}

/** Write to the debug log, if there is one. The message is only made when it is wanted. */
export function debug(message: () => string): void {
  if (!debugging()) return;
  const milliseconds = performance.now().toFixed(1).padStart(8);
  writeLine(`${PROGRAM}[${Deno.pid}] ${milliseconds} ms ${printable(message())}`);
}

let wanted: boolean | undefined;

function debugging(): boolean {
  wanted ??= Deno.env.get("GIT_ANNEX_P2P_IROH_LOG") === "debug";
  return wanted;
}

function writeLine(line: string): void {
  let bytes = new TextEncoder().encode(line + "\n");
  try {
    while (bytes.length > 0) bytes = bytes.subarray(Deno.stderr.writeSync(bytes));
  } catch {
    // stderr is closed or full: there is nobody to tell, and the bytes of the peer matter more.
  }
}
