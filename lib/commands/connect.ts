/** `git-annex-p2p-iroh ADDRESS`: connect to a peer, relay stdin to it and it to stdout. */

import { readHere } from "../repository/repository.ts";

/** Relays. @returns and @throws As {@linkcode relayTo}. */
export async function connect(address: string): Promise<number> {
  const here = readHere(); // git runs while the rest is loaded
  here.catch(() => {}); // told below
  const { relayTo } = await import("../connect/pipe.ts");
  return await relayTo(address, here);
}
