/**
 * Loads iroh-js's native addon in the compiled program, which contains it packed.
 *
 * The addon is loaded from the copy in the user's cache folder (addon_cache.ts). If there can be no copy, it is
 * unpacked into a temporary folder, which is removed at once.
 *
 * Some versions of Deno read at each start all that is embedded in a program. A program for Linux therefore
 * has the packed addon outside of that, and an embedded file that says where. Programs for other systems have
 * it embedded: these systems read only what is used, and a signature covers all of it.
 *
 * The program does not contain the npm package of the addon. With it, each start would read 20 MB, and Deno
 * would unpack them into the shared temporary folder, under a name that other users can guess.
 */

import { join } from "node:path";
import process from "node:process";
import { ensureAddonCopy } from "./addon_cache.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { cacheFolder, temporaryFolder } from "../platform/user_folders.ts";
import { GLIBC_MINOR, GLIBC_SYSTEMS } from "../platform/glibc.ts";
import { type FilePart, PackedAddon } from "./packed_addon.ts";
import { debug } from "../console/stderr.ts";

/** The addon cannot be loaded, neither from a copy nor from a temporary folder. */
export class AddonError extends Failure {
  override readonly name = "AddonError";
}

/** The running program (proc(5)), even if a newer one has taken its name. */
const OWN_EXECUTABLE = "/proc/self/exe";

/** Returns what the package of iroh-js exports, which is what its addon exports. @throws {AddonError} */
export async function loadAddon(): Promise<unknown> {
  try {
    const packed = findAddon();
    try {
      return open(await ensureAddonCopy(packed, cacheFolder()));
    } catch (error) { // for example, if the home directory is mounted with `noexec`
      debug(() => `iroh's native code is unpacked for this start alone: ${systemReason(error)}`);
    }
    return await loadOnce(packed);
  } catch (error) {
    throw new AddonError(`cannot load iroh's native code, ${systemReason(error)}`, {
      hint: loadHint(systemReason(error)),
      cause: error,
    });
  }
}

/** Finds the addon where tasks/compile.ts has put it. @throws {AddonError} */
function findAddon(): PackedAddon {
  try {
    return packedAddon();
  } catch (error) {
    // Deno gives embedded files a path below TMPDIR, and cannot read one that is not UTF-8.
    throw new AddonError(`cannot find iroh's native code, ${systemReason(error)}`, {
      hint: "if the name of the folder for temporary files is not UTF-8, set TMPDIR to another",
      cause: error,
    });
  }
}

function packedAddon(): PackedAddon {
  if (Deno.build.os !== "linux") return new PackedAddon(new URL("./addon.packed", import.meta.url));
  const place: FilePart = JSON.parse(
    Deno.readTextFileSync(new URL("./addon.place", import.meta.url)),
  );
  return new PackedAddon(OWN_EXECUTABLE, place);
}

/** Returns what the user can do. @param reason Why the system does not load the addon. */
export function loadHint(reason: string, os: typeof Deno.build.os = Deno.build.os): string {
  if (/version [`']GLIBC_[\d.]+' not found/.test(reason)) {
    return `it needs glibc 2.${GLIBC_MINOR}, as in ${GLIBC_SYSTEMS}`;
  }
  if (os === "windows") return "if the folder for temporary files is full, set TEMP to another";
  return "if the folder for temporary files is full or mounted noexec, set TMPDIR to another";
}

/**
 * Opens an addon. `require` would look for a `package.json` in the shared temporary folder. Another user can
 * put a FIFO of that name there, on which the program would wait for ever.
 */
function open(path: string): unknown {
  const module = { exports: {} };
  process.dlopen(module, path);
  return module.exports;
}

async function loadOnce(packed: PackedAddon): Promise<unknown> {
  const folder = await Deno.makeTempDir({ dir: temporaryFolder(), prefix: "git-annex-p2p-iroh-" }); // with mode 0700
  try {
    const path = join(folder, packed.name);
    await Deno.writeFile(path, packed.unpack(), { mode: 0o600, createNew: true });
    return open(path);
  } finally {
    // A loaded addon does not need its file. Windows does not let it be removed, so that it stays there.
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  }
}
