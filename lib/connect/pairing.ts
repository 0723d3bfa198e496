/** Tells whether the user is pairing this repository with the peer. */

import { processInfo } from "../platform/processes.ts";

/** Matches the command line of `git annex p2p` with one of these options. The path of git-annex may have spaces. */
const COMMAND_LINE = /(?:^|\/)git-annex(?:\.\S+)? p2p (?:\S+ )*--(?:link|pair)(?: |$)/;

/** Tells whether a command line pairs repositories. @param command Its words, with spaces between them. */
export function isPairingCommand(command: string): boolean {
  return COMMAND_LINE.test(command);
}

/** Tells whether `git annex p2p --link` or `--pair` has started this process. */
export async function isPairing(): Promise<boolean> {
  return isPairingCommand((await processInfo(Deno.ppid))?.command ?? "");
}
