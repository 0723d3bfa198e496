/** Tells whether git-annex's remotedaemon has started this process. */

import { processInfo } from "../platform/processes.ts";

/**
 * Matches the command line of remotedaemon. The path of git-annex may have spaces, or come after that of a
 * dynamic linker. A remote may be named remotedaemon, too, but its name is never the first argument.
 */
const COMMAND_LINE = /(?:^|\/)git-annex(?:\.\S+)? remotedaemon(?: |$)/;

/** Tells whether a command line is remotedaemon's. @param command Its words, with spaces between them. */
export function isRemoteDaemon(command: string): boolean {
  return COMMAND_LINE.test(command);
}

/** Returns the process id of the remotedaemon that has started this process; undefined if another process has. */
export async function startingDaemon(): Promise<number | undefined> {
  const parent = await processInfo(Deno.ppid);
  return parent && isRemoteDaemon(parent.command) ? parent.pid : undefined;
}
