/**
 * How the compiled program loads iroh-js's native addon, which it holds packed: from the copy in the
 * user's cache folder (addon_cache.ts), or, where there can be none, from a folder made for this start
 * and removed at once. It does not hold the package that the addon comes in: each start would read the
 * 20 MB, and Deno would unpack them each time, under a name that others can guess in a folder for all.
 */

import { createRequire } from "node:module";
import { join } from "node:path";
import { cacheFolder, ensureAddonCopy } from "./addon_cache.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { PackedAddon } from "./packed_addon.ts";
import { debug } from "../console/stderr.ts";

/** The addon cannot be loaded from anywhere. */
export class AddonError extends Failure {
  override readonly name = "AddonError";
}

/** What iroh-js's own loader gives: all that it exports is the addon's. @throws {AddonError} */
export async function loadAddon(): Promise<unknown> {
  const require = createRequire(import.meta.url);
  const packed = new PackedAddon(new URL("./addon.packed", import.meta.url)); // tasks/compile.ts puts it there
  try {
    return require(await ensureAddonCopy(packed, cacheFolder()));
  } catch (error) { // so it is where the home directory is mounted with `noexec`
    debug(() => `iroh's native code is unpacked for this start alone: ${systemReason(error)}`);
  }
  try {
    return await loadOnce(packed, require);
  } catch (error) {
    throw new AddonError(`cannot load iroh's native code, ${systemReason(error)}`, {
      hint: "if the folder for temporary files is full or mounted noexec, set TMPDIR to another",
      cause: error,
    });
  }
}

async function loadOnce(packed: PackedAddon, require: NodeJS.Require): Promise<unknown> {
  const folder = await Deno.makeTempDir({ prefix: "git-annex-p2p-iroh-" }); // closed to others
  try {
    const path = join(folder, packed.name);
    await Deno.writeFile(path, packed.unpack(), { mode: 0o600, createNew: true });
    return require(path);
  } finally {
    // What is loaded stays so without its file; Windows lets nobody remove that.
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  }
}
