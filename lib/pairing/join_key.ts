/**
 * The key by which the inviter knows a joiner again. It is no repository's key, and lies in a file of its own until
 * the joiner is done: so an interrupted join goes on, also from another process.
 */

import { newIdentity, parseSecretKey } from "../repository/identity.ts";
import { writeAtomically } from "../platform/atomic_file.ts";
import { readAtMost } from "../platform/regular_file.ts";
import { Failure } from "../console/failure.ts";

/** Maximum length of the file: far more than a key has. */
const MAX_FILE_BYTES = 1024;

/**
 * Returns the key in a file, and makes the file (mode 0600) if there is none. The caller removes the file when the
 * join is done or given up. Its folder must exist, and be no other user's.
 *
 * @throws {Failure} if the file holds no key. @throws What the system says.
 */
export async function joinKey(path: string): Promise<Uint8Array> {
  const { secretKey } = newIdentity();
  await writeAtomically(path, secretKey.toHex() + "\n", { mode: 0o600, ifPresent: "keep" });
  const kept = parseSecretKey(readAtMost(path, MAX_FILE_BYTES));
  if (kept) return kept;
  throw new Failure(`the file ${path} is damaged, it holds no key`, {
    hint: "remove it, and ask for a new invitation",
  });
}
