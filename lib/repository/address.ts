/**
 * Makes and keeps the address of a repository, in `annex/creds/iroh-address`. git-annex binds each pairing to the
 * exact text of an address. The address is therefore made once, and later settings do not change it.
 */

import { dirname, join } from "node:path";
import { abortable } from "../async/abort.ts";
import { ignoreNotFound, writeAtomically } from "../platform/atomic_file.ts";
import { readAtMost } from "../platform/regular_file.ts";
import { systemReason } from "../console/failure.ts";
import {
  cannotWrite,
  credsDir,
  type Identity,
  IdentityError,
  newIdentity,
  readIdentity,
  storeIdentity,
} from "./identity.ts";
import type { Repository } from "./repository.ts";
import type { Settings } from "./settings.ts";
import { debug } from "../console/stderr.ts";
import { decodeTicket, encodeTicket, samePublicKey, TicketError } from "./ticket.ts";

/** How git-annex writes the URL of a peer (its `Annex.Url`, `p2p-annex::NETWORK:ADDRESS`). */
export const ANNEX_URL_PREFIX = "p2p-annex::iroh:";

/** Maximum length of the address file: twice the longest address. */
const MAX_FILE_BYTES = 8 * 1024;
/** Timeout for the lock. Another process holds it while it writes two small files. */
const LOCK_TIMEOUT_MS = 10_000;

/**
 * Returns the address of a repository. Without an identity, it makes one first. Simultaneous first runs all
 * return the same address.
 *
 * - The address of a new identity contains its key and, if the settings name relays, the first of them.
 * - The address of an identity that the shell script made contains its key alone.
 *
 * @throws {IdentityError} if identity or address cannot be read or written. A new identity is then removed.
 */
export async function ensureAddress(repository: Repository, settings: Settings): Promise<string> {
  await makeCredsDir(repository);
  using _lock = await lockFolder(credsDir(repository));
  const identity = readIdentity(repository);
  if (identity) return await addressOf(repository, identity);
  return await newAddress(repository, settings);
}

/** Makes the folder of the identity. Its parent `annex` has git-annex's mode: users may share the repository. */
async function makeCredsDir(repository: Repository): Promise<void> {
  const path = credsDir(repository);
  try {
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (isFolder(path)) return;
    throw cannotWrite(`to the folder ${path}`, error);
  }
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false; // it does not exist, or another user's folder hides it
  }
}

/** Returns the address of a repository, without changing anything; undefined if it has no identity. */
export function presentAddress(repository: Repository): string | undefined {
  const identity = readIdentity(repository);
  return identity && (keptAddress(repository, identity) ?? bareAddress(identity));
}

async function addressOf(repository: Repository, identity: Identity): Promise<string> {
  const kept = keptAddress(repository, identity);
  if (kept) return kept;
  const address = bareAddress(identity);
  // A read-only repository is no reason to fail, since this address follows from the key alone.
  await writeAddress(repository, address).catch((error) => debug(() => String(error)));
  return address;
}

function keptAddress(repository: Repository, identity: Identity): string | undefined {
  const kept = readAddress(repository);
  return kept && samePublicKey(decodeTicket(kept), identity) ? kept : undefined;
}

function bareAddress({ publicKey }: Identity): string {
  return encodeTicket({ publicKey, relays: [] });
}

async function newAddress(repository: Repository, settings: Settings): Promise<string> {
  const identity = newIdentity();
  const relays = settings.relay.kind === "custom" ? settings.relay.urls.slice(0, 1) : [];
  const address = encodeTicket({ publicKey: identity.publicKey, relays });
  // The address is written first. An address without an identity does no harm, but an identity without its
  // address would be taken for the shell script's.
  await writeAddress(repository, address);
  try {
    if (await storeIdentity(repository, identity)) return address;
  } catch (error) {
    await Deno.remove(addressPath(repository)).catch(ignoreNotFound);
    throw error;
  }
  const other = readIdentity(repository); // made by the shell script meanwhile
  if (!other) throw new IdentityError("the identity file was removed while it was being made");
  return await addressOf(repository, other);
}

function addressPath(repository: Repository): string {
  return join(credsDir(repository), "iroh-address");
}

function readAddress(repository: Repository): string | undefined {
  const path = addressPath(repository);
  try {
    const text = new TextDecoder().decode(readAtMost(path, MAX_FILE_BYTES)).trim();
    decodeTicket(text);
    return text;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    const why = error instanceof TicketError ? "it holds no address" : systemReason(error);
    throw new IdentityError(`the address file ${path} is damaged, ${why}`, {
      hint: "restore it from a backup, or remove it if no peer is paired with this repository",
      cause: error,
    });
  }
}

async function writeAddress(repository: Repository, address: string): Promise<void> {
  const path = addressPath(repository);
  try {
    await writeAtomically(path, address + "\n", { mode: 0o600, ifPresent: "replace" });
  } catch (error) {
    throw cannotWrite(`the address file ${path}`, error);
  }
}

/** Locks out other processes that call {@linkcode ensureAddress}, until disposed of. */
async function lockFolder(path: string): Promise<Disposable> {
  let folder: Deno.FsFile;
  try {
    folder = await Deno.open(path, { read: true });
  } catch (error) {
    return noLock(path, error); // Windows cannot open folders
  }
  try {
    await abortable(folder.lock(true), AbortSignal.timeout(LOCK_TIMEOUT_MS));
    return folder;
  } catch (error) {
    folder.close();
    if (!(error instanceof DOMException)) return noLock(path, error); // NFS cannot lock folders
    throw new IdentityError(`cannot lock the folder ${path}, ${systemReason(error)}`, {
      hint: "is another git-annex-p2p-iroh address running there?",
      cause: error,
    });
  }
}

/**
 * Goes on without a lock. Two simultaneous first runs still end with one key, since storing an identity never
 * replaces one. At worst they print addresses with different relays.
 */
function noLock(path: string, error: unknown): Disposable {
  debug(() => `cannot lock ${path}: ${error}`);
  return { [Symbol.dispose]() {} };
}
