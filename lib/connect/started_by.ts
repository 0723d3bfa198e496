/** Tells which command of git-annex has started this process. */

import { processInfo } from "../platform/processes.ts";

/**
 * Matches the command line of remotedaemon. The path of git-annex may have spaces, or come after that of a
 * dynamic linker. A remote may be named remotedaemon, too, but its name is never the first argument.
 */
const REMOTE_DAEMON = /(?:^|\/)git-annex(?:\.\S+)? remotedaemon(?: |$)/;
/** Matches the command line of `git annex p2p` with one of these options. The path of git-annex may have spaces. */
const PAIRING = /(?:^|\/)git-annex(?:\.\S+)? p2p (?:\S+ )*--(?:link|pair)(?: |$)/;

/** Tells whether a command line is remotedaemon's. @param command Its words, with spaces between them. */
export function isRemoteDaemon(command: string): boolean {
  return REMOTE_DAEMON.test(command);
}

/** Tells whether a command line pairs repositories. @param command Its words, with spaces between them. */
export function isPairingCommand(command: string): boolean {
  return PAIRING.test(command);
}

/** Returns the process id of the remotedaemon that has started this process; undefined if another process has. */
export async function startingDaemon(): Promise<number | undefined> {
  const parent = await processInfo(Deno.ppid);
  return parent && isRemoteDaemon(parent.command) ? parent.pid : undefined;
}

/** Tells whether `git annex p2p --link` or `--pair` has started this process. */
export async function isPairing(): Promise<boolean> {
  return isPairingCommand((await processInfo(Deno.ppid))?.command ?? "");
}
