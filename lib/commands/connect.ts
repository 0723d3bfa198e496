/** `git-annex-p2p-iroh ADDRESS`: connects to a peer, and pipes stdin to it and its bytes to stdout. */

import { readWorkingContext } from "../repository/repository.ts";

/** Connects to a peer. @returns and @throws As {@linkcode pipeStdio}. */
export async function connect(address: string): Promise<number> {
  const context = readWorkingContext(); // git runs while modules load
  context.catch(() => {}); // pipeStdio() awaits it and throws
  const { pipeStdio } = await import("../connect/pipe.ts");
  return await pipeStdio(address, context);
}
