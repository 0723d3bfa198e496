/**
 * Remembers which peers speak only dumbpipe's protocol, so that a round trip is lost once and not at each dial.
 * For each such peer there is an empty file `KEY.dumbpipe` in the user's runtime folder.
 */

import { join } from "node:path";
import { debug } from "../console/stderr.ts";
import { writeAtomically } from "../platform/atomic_file.ts";
import { ensureRuntimeFolder, runtimeFolders } from "../platform/runtime_folder.ts";

/** Time for which a peer is remembered. Then the peer may have been given this program. */
const MAX_AGE_MS = 24 * 60 * 60 * 1000;

/**
 * Tells whether a peer is known to speak only dumbpipe's protocol. Never throws.
 *
 * @param folders By default the user's runtime folders.
 */
export async function speaksDumbpipeOnly(
  publicKey: Uint8Array,
  folders?: readonly string[],
): Promise<boolean> {
  for (const folder of folders ?? runtimeFolders()) {
    const { mtime } = await Deno.stat(join(folder, fileName(publicKey))).catch(() => ({
      mtime: null,
    }));
    if (mtime && Date.now() - mtime.getTime() < MAX_AGE_MS) return true;
  }
  return false;
}

/**
 * Remembers that a peer speaks only dumbpipe's protocol. Never throws: the next dial finds it out again.
 *
 * @param folder By default the user's runtime folder.
 */
export async function rememberDumbpipeOnly(publicKey: Uint8Array, folder?: string): Promise<void> {
  try {
    folder ??= await ensureRuntimeFolder();
    await writeAtomically(join(folder, fileName(publicKey)), "", {
      mode: 0o600,
      ifPresent: "replace",
      isFlushed: false,
    });
  } catch (error) {
    debug(() => `cannot remember that the peer speaks only dumbpipe's protocol: ${error}`);
  }
}

function fileName(publicKey: Uint8Array): string {
  return `${publicKey.toHex()}.dumbpipe`;
}
