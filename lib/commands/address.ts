/** `git-annex-p2p-iroh address`: prints this repository's address, and makes it if there is none. */

import { ensureAddress } from "../repository/address.ts";
import { findRepository, readSettings } from "../repository/repository.ts";
import { print } from "../console/stdout.ts";

/** Prints the address in one line, as git-annex stores it. */
export async function address(): Promise<number> {
  const [repository, settings] = await Promise.all([findRepository(), readSettings()]);
  await print(`${await ensureAddress(repository, settings)}\n`);
  return 0;
}
