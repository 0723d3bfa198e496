/** Notes in the listener's log that it is of another version, so that each connection takes longer. */

import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { LogFile } from "../console/log_file.ts";
import { debug } from "../console/stderr.ts";
import { servingOf } from "../listener/listener_file.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import { readTextAtMost } from "../platform/regular_file.ts";
import type { Repository } from "../repository/repository.ts";

/** Maximum part of the log that is searched: all of it, as LogFile keeps it. */
const MAX_LOG_BYTES = 256 * 1024;

/**
 * Writes a line to the log, once for each pair of versions. Never throws.
 *
 * @param version Version of the listener.
 */
export async function noteOtherVersion(repository: Repository, version: string): Promise<void> {
  const path = join(listenerFolder(repository), "log");
  const message = `this listener is of version ${version}, and the program of version ` +
    `${config.version}; restart up or git annex remotedaemon`;
  try {
    const isNoted = readTextAtMost(path, MAX_LOG_BYTES).includes(message);
    if (!isNoted && await servingOf(repository)) await new LogFile(path).write(message);
  } catch (error) {
    debug(() => `cannot note the version: ${error}`);
  }
}
