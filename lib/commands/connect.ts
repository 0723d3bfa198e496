/** `git-annex-p2p-iroh ADDRESS`: connects to a peer, and pipes stdin to it and its bytes to stdout. */

import { locateWithoutGit } from "../connect/without_git.ts";
import { readWorkingContext } from "../repository/repository.ts";

/** Connects to a peer. @returns and @throws As {@linkcode pipeStdio}. */
export async function connect(address: string): Promise<number> {
  const certain = locateWithoutGit(address);
  const reading = certain ? undefined : readWorkingContext(); // git runs while modules load
  reading?.catch(() => {}); // it is awaited later
  const [{ pipeStdio }] = await Promise.all([
    import("../connect/pipe.ts"),
    certain && import("../connect/via_listener.ts"),
  ]);
  return await pipeStdio(address, certain, () => reading ?? readWorkingContext());
}
