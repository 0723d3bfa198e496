/** Denort, the runtime that `deno compile` puts into a program, with the addon, and for targets with large pages. */

import { Buffer } from "node:buffer";
import { join } from "node:path";
import type { FilePart } from "../lib/iroh/packed_addon.ts";
import { padToPage } from "./elf.ts";
import { runDeno } from "./packages.ts";
import { denoDir } from "./program.ts";
import type { Target } from "./targets.ts";
import { unzip } from "./zip.ts";

/** Variable that names a denort for `deno compile`. By default Deno downloads that of the target. */
export const DENORT = "DENORT_BIN";

/** A runtime for one program. */
export interface Denort {
  readonly path: string;
  /** Where in the program the addon will be. */
  readonly addon: FilePart;
}

/** Where {@linkcode denortWith} takes a denort from. */
export interface DenortSource {
  /** A file with it. If there is none, Deno downloads one. */
  readonly given?: string | undefined;
  /** Deno's cache folder. */
  readonly cache: string;
}

const fromEnvironment = (): DenortSource => ({ given: Deno.env.get(DENORT), cache: denoDir() });

/**
 * Makes a runtime for Linux with the packed addon at its end. Deno appends the embedded files to it, and some
 * versions of Deno read all of these at each start, but not what is before them. If the pages of the target
 * are larger than those that Deno takes into account, the runtime is padded.
 *
 * @param folder Folder for it.
 * @param source By default what the environment says.
 * @returns Undefined if the target is no Linux. Deno's own runtime will do then, and the addon is embedded.
 */
export async function denortWith(
  packed: Uint8Array,
  target: Target,
  folder: string,
  { given, cache }: DenortSource = fromEnvironment(),
): Promise<Denort | undefined> {
  if (target.format !== "elf") return undefined;
  const denort = given ? await Deno.readFile(given) : await downloadDenort(target, folder, cache);
  const path = join(folder, "denort");
  await Deno.writeFile(path, padToPage(Buffer.concat([denort, packed]), target.pageBytes));
  return { path, addon: { offset: denort.length, bytes: packed.length } };
}

/** Lets Deno download a denort to its cache. Only `deno compile` does that, so this compiles an empty program. */
async function downloadDenort(
  { platform }: Target,
  folder: string,
  cache: string,
): Promise<Uint8Array> {
  await Deno.writeTextFile(join(folder, "empty.js"), "");
  const flags = ["--quiet", "--no-check", "--no-config", "--target", platform];
  const args = ["compile", ...flags, "--output", join(folder, "empty"), "empty.js"];
  await runDeno(args, folder, { DENO_DIR: cache });
  const release = join(cache, "dl", "release", `v${Deno.version.deno}`);
  return unzip(await Deno.readFile(join(release, `denort-${platform}.zip`)), "denort");
}
