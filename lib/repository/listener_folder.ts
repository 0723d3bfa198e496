/** The folder in which a repository's listener keeps its files. */

import { join } from "node:path";
import type { Repository } from "./repository.ts";

/**
 * Returns the folder of a repository's listener: its log, its signature, the locator of its control socket, and
 * when peers were last seen. git-annex does not share it with peers.
 */
export function listenerFolder({ gitDir }: Repository): string {
  return join(gitDir, "annex", "p2p-iroh");
}
