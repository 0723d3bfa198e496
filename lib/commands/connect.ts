/** `git-annex-p2p-iroh ADDRESS`: connect to a peer, pipe stdin to it and it to stdout. */

import { readWorkingContext } from "../repository/repository.ts";

/** Pipes. @returns and @throws As {@linkcode pipeStdio}. */
export async function connect(address: string): Promise<number> {
  const context = readWorkingContext(); // git runs while the rest is loaded
  context.catch(() => {}); // told below
  const { pipeStdio } = await import("../connect/pipe.ts");
  return await pipeStdio(address, context);
}
