/**
 * Reads and makes the identity of a repository: an Ed25519 secret key in `annex/creds/iroh-secret`.
 *
 * The shell script that git-annex documents uses the same file, and passes its content to dumbpipe. The file has
 * one line with 32 bytes, as 64 hex digits or as 52 base32 letters (iroh-base's `SecretKey::from_str`). It is
 * never overwritten, whatever it contains, since it may be the only copy of a key.
 */

import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { join } from "node:path";
import { base32nopad } from "@scure/base";
import { writeAtomically } from "../platform/atomic_file.ts";
import { NotRegular, readAtMost } from "../platform/regular_file.ts";
import { Failure, systemReason } from "../console/failure.ts";
import type { Repository } from "./repository.ts";

/** The keys of a repository. */
export interface Identity {
  /** Ed25519 secret key, 32 bytes. Never shown, never passed to another process. */
  readonly secretKey: Uint8Array;
  /** Its public key, 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** The identity cannot be read or written. */
export class IdentityError extends Failure {
  override readonly name = "IdentityError";
}

const SECRET_KEY_BYTES = 32;
/** Maximum length of the file: far more than any form of a key. */
const MAX_FILE_BYTES = 1024;
/** The bytes before the key in PKCS #8 (RFC 8410, section 7). */
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");

/** Returns the folder of the identity, which git-annex does not share with peers. */
export function credsDir(repository: Repository): string {
  return join(repository.gitDir, "annex", "creds");
}

/** Returns the path of the secret key. */
export function identityPath(repository: Repository): string {
  return join(credsDir(repository), "iroh-secret");
}

/**
 * Reads the identity of a repository.
 *
 * @returns Undefined if it has none.
 * @throws {IdentityError} if the file cannot be read, or holds no key.
 */
export function readIdentity(repository: Repository): Identity | undefined {
  const path = identityPath(repository);
  let bytes: Uint8Array;
  try {
    bytes = readAtMost(path, MAX_FILE_BYTES);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new IdentityError(`cannot read the identity file ${path}, ${systemReason(error)}`, {
      hint: error instanceof NotRegular
        ? "move it away"
        : "run this as the user who owns it, or correct its owner and mode (0600)",
      cause: error,
    });
  }
  const secretKey = parseSecretKey(bytes);
  if (secretKey) return { secretKey, publicKey: publicKeyOf(secretKey) };
  const found = bytes.length === 0 ? "it is empty" : "it does not hold 64 hex digits";
  throw new IdentityError(`the identity file ${path} is damaged, ${found}`, {
    hint: "restore it from a backup, or move it away to start with a new address",
  });
}

/** Makes a new identity, which is not stored yet. */
export function newIdentity(): Identity {
  const secretKey = crypto.getRandomValues(new Uint8Array(SECRET_KEY_BYTES));
  return { secretKey, publicKey: publicKeyOf(secretKey) };
}

/**
 * Stores the identity of a repository that has none.
 *
 * @returns False if the repository has one meanwhile, which is kept.
 * @throws {IdentityError} if it cannot be written. No file is left then.
 */
export async function storeIdentity(repository: Repository, identity: Identity): Promise<boolean> {
  const path = identityPath(repository);
  const line = identity.secretKey.toHex() + "\n";
  try {
    return await writeAtomically(path, line, { mode: 0o600, ifPresent: "keep" });
  } catch (error) {
    throw cannotWrite(`the identity file ${path}`, error);
  }
}

/** Returns the error for a file in the folder of the identity that cannot be written. */
export function cannotWrite(what: string, cause: unknown): IdentityError {
  return new IdentityError(`cannot write ${what}, ${systemReason(cause)}`, {
    hint: "make room or correct the permissions, and try again",
    cause,
  });
}

/** Parses the content of an identity file; undefined if it holds no key. */
export function parseSecretKey(bytes: Uint8Array): Uint8Array | undefined {
  const text = new TextDecoder("latin1").decode(bytes).trim();
  if (/^[0-9a-f]{64}$/i.test(text)) return Uint8Array.from(Buffer.from(text, "hex"));
  if (!/^[a-z2-7]{52}$/i.test(text)) return undefined;
  try {
    return base32nopad.decode(text.toUpperCase());
  } catch {
    return undefined; // the last letter has bits beyond the last byte
  }
}

/** Returns the public key of a secret key, 32 bytes each. */
export function publicKeyOf(secretKey: Uint8Array): Uint8Array {
  const der = Buffer.concat([PKCS8_PREFIX, secretKey]);
  const key = createPublicKey(createPrivateKey({ key: der, format: "der", type: "pkcs8" }));
  return Uint8Array.from(Buffer.from(key.export({ format: "jwk" }).x!, "base64url"));
}
