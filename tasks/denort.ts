/** Denort, the runtime that `deno compile` puts into a program, changed for targets with large pages. */

import { join } from "node:path";
import { padToPage } from "./elf.ts";
import { runDeno } from "./packages.ts";
import { denoDir } from "./program.ts";
import type { Target } from "./targets.ts";
import { unzip } from "./zip.ts";

/** Variable that names a denort for `deno compile`. By default Deno downloads that of the target. */
export const DENORT = "DENORT_BIN";

/** Size of the pages for which `deno compile` itself lays out a program. */
const DENO_PAGE_BYTES = 4096;

/**
 * Makes a denort for a target whose pages are larger than those that Deno takes into account.
 *
 * @param folder Folder for it.
 * @returns Its path; undefined if Deno's own will do.
 */
export async function paddedDenort(target: Target, folder: string): Promise<string | undefined> {
  if (target.format !== "elf" || target.pageBytes <= DENO_PAGE_BYTES) return undefined;
  const given = Deno.env.get(DENORT);
  const denort = given ? await Deno.readFile(given) : await downloadDenort(target, folder);
  const path = join(folder, "denort");
  await Deno.writeFile(path, padToPage(denort, target.pageBytes));
  return path;
}

/** Lets Deno download a denort to its cache. Only `deno compile` does that, so this compiles an empty program. */
async function downloadDenort({ platform }: Target, folder: string): Promise<Uint8Array> {
  await Deno.writeTextFile(join(folder, "empty.js"), "");
  const flags = ["--quiet", "--no-check", "--no-config", "--target", platform];
  await runDeno(["compile", ...flags, "--output", join(folder, "empty"), "empty.js"], folder);
  const release = join(denoDir(), "dl", "release", `v${Deno.version.deno}`);
  return unzip(await Deno.readFile(join(release, `denort-${platform}.zip`)), "denort");
}
