/** `git-annex-p2p-iroh address`: this repository's address, made if it has none. */

import { ownAddress } from "../own_address.ts";
import { findRepository, readSettings } from "../repository.ts";

/** Prints the address, one line, as git-annex stores it. */
export async function address(): Promise<number> {
  const [repository, settings] = await Promise.all([findRepository(), readSettings()]);
  const line = new TextEncoder().encode(await ownAddress(repository, settings) + "\n");
  for (let rest = line; rest.length > 0;) rest = rest.subarray(await Deno.stdout.write(rest));
  return 0;
}
