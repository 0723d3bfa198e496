/** Git remotes that git-annex reaches over iroh. */

import { ANNEX_URL_PREFIX } from "./address.ts";
import { remoteUrls, type Repository } from "./repository.ts";
import { debug } from "../console/stderr.ts";
import { decodeTicket } from "./ticket.ts";

/** A git remote with an address of this program. */
export interface Remote {
  readonly name: string;
  readonly address: string;
  readonly publicKey: Uint8Array;
}

/** Returns the remotes of a repository. @throws {RepositoryError} if git fails. */
export async function irohRemotes(repository: Repository): Promise<Remote[]> {
  const remotes = new Map<string, Remote>();
  for (const { name, url } of await remoteUrls(repository)) {
    if (!url.startsWith(ANNEX_URL_PREFIX)) continue;
    const address = url.slice(ANNEX_URL_PREFIX.length);
    try {
      remotes.set(name, { name, address, publicKey: decodeTicket(address).publicKey });
    } catch (error) {
      debug(() => `remote ${name}: ${error}`); // its address is damaged, so it names no peer
    }
  }
  return [...remotes.values()];
}
