/**
 * Which peers speak dumbpipe's protocol alone, so that finding it out costs a round trip once and not at each
 * dial: a file `KEY.plain` in the user's runtime folder, which counts for a day.
 */

import { join } from "node:path";
import { ensureRuntimeFolder, runtimeFolders } from "../platform/runtime_folder.ts";
import { debug } from "../console/stderr.ts";

/** A peer may have been given a later program. */
const COUNTS_FOR_MS = 24 * 60 * 60 * 1000;

/** Whether a peer is known to speak dumbpipe's protocol alone. Never throws. */
export async function speaksDumbpipeOnly(
  publicKey: Uint8Array,
  folders?: readonly string[],
): Promise<boolean> {
  for (const folder of folders ?? runtimeFolders()) {
    const { mtime } = await Deno.stat(join(folder, fileName(publicKey))).catch(() => ({
      mtime: null,
    }));
    if (mtime && Date.now() - mtime.getTime() < COUNTS_FOR_MS) return true;
  }
  return false;
}

/** Remembers that a peer does. Never throws: it will be found out again. */
export async function rememberDumbpipeOnly(publicKey: Uint8Array, folder?: string): Promise<void> {
  try {
    folder ??= await ensureRuntimeFolder();
    const path = join(folder, fileName(publicKey));
    await Deno.writeFile(path, new Uint8Array(), { mode: 0o600 });
    const now = new Date();
    await Deno.utime(path, now, now);
  } catch (error) {
    debug(() => `not remembered that the peer speaks dumbpipe's protocol alone: ${error}`);
  }
}

function fileName(publicKey: Uint8Array): string {
  return `${publicKey.toHex()}.plain`;
}
