/**
 * Loads iroh-js's native addon in the compiled program, which contains it packed.
 *
 * The addon is loaded from the copy in the user's cache folder (addon_cache.ts). If there can be no copy, it is
 * unpacked into a temporary folder, which is removed at once.
 *
 * The program does not contain the npm package of the addon. With it, each start would read 20 MB, and Deno
 * would unpack them into the shared temporary folder, under a name that other users can guess.
 */

import { join } from "node:path";
import process from "node:process";
import { cacheFolder, ensureAddonCopy } from "./addon_cache.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { PackedAddon } from "./packed_addon.ts";
import { debug } from "../console/stderr.ts";

/** The addon cannot be loaded, neither from a copy nor from a temporary folder. */
export class AddonError extends Failure {
  override readonly name = "AddonError";
}

/** Returns what the package of iroh-js exports, which is what its addon exports. @throws {AddonError} */
export async function loadAddon(): Promise<unknown> {
  const packed = new PackedAddon(new URL("./addon.packed", import.meta.url)); // written by tasks/compile.ts
  try {
    return open(await ensureAddonCopy(packed, cacheFolder()));
  } catch (error) { // for example, if the home directory is mounted with `noexec`
    debug(() => `iroh's native code is unpacked for this start alone: ${systemReason(error)}`);
  }
  try {
    return await loadOnce(packed);
  } catch (error) {
    throw new AddonError(`cannot load iroh's native code, ${systemReason(error)}`, {
      hint: "if the folder for temporary files is full or mounted noexec, set TMPDIR to another",
      cause: error,
    });
  }
}

/**
 * Opens an addon. `require` would look for a `package.json` in the folders that Deno gives to a compiled
 * program, all in the shared temporary folder, where another user can put a FIFO of that name.
 */
function open(path: string): unknown {
  const module = { exports: {} };
  process.dlopen(module, path);
  return module.exports;
}

async function loadOnce(packed: PackedAddon): Promise<unknown> {
  const folder = await Deno.makeTempDir({ prefix: "git-annex-p2p-iroh-" }); // with mode 0700
  try {
    const path = join(folder, packed.name);
    await Deno.writeFile(path, packed.unpack(), { mode: 0o600, createNew: true });
    return open(path);
  } finally {
    // A loaded addon does not need its file. Windows does not let it be removed, so that it stays there.
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  }
}
