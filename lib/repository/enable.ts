/** Makes sure that git-annex serves this repository's address. */

import { join } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { readTextAtMost } from "../platform/regular_file.ts";
import { ANNEX_URL_PREFIX } from "./address.ts";
import { credsDir, readIdentity } from "./identity.ts";
import { decodeTicket, samePublicKey } from "./ticket.ts";
import { CommandFailed, outputIn } from "./git_annex.ts";
import type { Repository } from "./repository.ts";

/** Maximum size of git-annex's list of addresses: some hundred addresses. */
const MAX_LIST_BYTES = 64 * 1024;

/** git-annex cannot give the repository an address. */
export class EnableError extends Failure {
  override readonly name = "EnableError";
}

/** Returns the path of git-annex's list of the addresses that it serves. */
export function addressListPath(repository: Repository): string {
  return join(credsDir(repository), "p2paddrs");
}

/**
 * Returns the address that git-annex serves. If it serves none of this program, runs `git annex p2p --enable iroh`.
 *
 * @throws {EnableError} if that fails.
 */
export async function ensureEnabled(
  repository: Repository,
  folder: string,
  signal: AbortSignal,
): Promise<string> {
  const known = servedAddress(repository);
  if (known !== undefined) return known;
  await enable(folder, signal);
  const address = servedAddress(repository);
  if (address !== undefined) return address;
  throw new EnableError("git annex p2p --enable iroh has stored no address of this program", {
    hint: "run git-annex-p2p-iroh doctor",
  });
}

/**
 * Returns the address of this repository that git-annex serves; undefined if there is none. It may have been made
 * by another program, such as the shell script around dumbpipe, and then has the key in another form.
 */
function servedAddress(repository: Repository): string | undefined {
  const identity = readIdentity(repository);
  if (!identity) return undefined;
  const path = addressListPath(repository);
  let list = "";
  try {
    list = readTextAtMost(path, MAX_LIST_BYTES);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new EnableError(`cannot read ${path}, ${systemReason(error)}`, {
      hint: "correct its owner and mode",
      cause: error,
    });
  }
  const urls = list.split("\n").filter((line) => line.startsWith(ANNEX_URL_PREFIX));
  return urls.map((url) => url.slice(ANNEX_URL_PREFIX.length)).find((address) => {
    try {
      return samePublicKey(decodeTicket(address), identity);
    } catch (error) {
      if (error instanceof Failure) return false; // it is damaged
      throw error;
    }
  });
}

async function enable(folder: string, signal: AbortSignal): Promise<void> {
  try {
    await outputIn(folder, ["annex", "p2p", "--enable", "iroh"], signal);
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    throw new EnableError(error.message, { hint: "run git-annex-p2p-iroh doctor", cause: error });
  }
}
