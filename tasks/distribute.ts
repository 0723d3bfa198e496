/**
 * deno task distribute --programs FOLDER --output FOLDER
 *
 * Makes all files of a release from the compiled program of each target, under its name in a release:
 *
 * - the programs themselves, and an archive of each with man page, completions, units and licenses
 * - packages for Debian and Fedora, for which `nfpm` must be on PATH
 * - an installer, a formula for Homebrew, and the files of a container
 * - a list of what is in the programs, and the checksums of all files
 *
 * Two runs with the same programs make identical files. It needs GNU tar and xz.
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { PROGRAM } from "../lib/console/program.ts";
import { archivedFiles, writeTarGz, writeTarXz, writeZip } from "./distribute/archives.ts";
import { containerFiles } from "./distribute/container.ts";
import { companions } from "./distribute/files.ts";
import { formula } from "./distribute/homebrew.ts";
import { installer } from "./distribute/installer.ts";
import { writePackages } from "./distribute/nfpm.ts";
import { sbom } from "./distribute/sbom.ts";
import { programName, TARGETS } from "./targets.ts";

/** Architectures of the packages, by Go's names. */
const PACKAGE_ARCHES: Readonly<Record<string, string>> = {
  "linux-x64": "amd64",
  "linux-arm64": "arm64",
};
/** Documents that stand beside the programs, too. */
const DOCUMENTS = ["LICENSE", "CHANGELOG.md"];
const CHECKSUMS = "SHA256SUMS";

/** Makes the files of a release. @returns Their names. @throws If the program of a target is missing. */
export async function distribute(programs: string, output: string): Promise<string[]> {
  await Deno.mkdir(output, { recursive: true });
  const files = await companions(), checksums = new Map<string, string>();
  for (const [target, { format, suffix }] of Object.entries(TARGETS)) {
    const name = programName(target), program = await Deno.readFile(join(programs, name));
    await Deno.writeFile(join(output, name), program, { mode: 0o755 });
    const archived = archivedFiles(program, suffix, files);
    if (format === "pe") {
      await writeZip(join(output, `${PROGRAM}-${target}.zip`), archived);
      continue;
    }
    const archive = join(output, `${PROGRAM}-${target}.tar.xz`);
    await writeTarXz(archive, archived);
    checksums.set(target, await sha256(archive));
    const arch = PACKAGE_ARCHES[target];
    if (arch) await writePackages(arch, program, files, output);
  }
  const script = installer(checksums);
  await Deno.writeTextFile(join(output, "install.sh"), script);
  await Deno.writeTextFile(join(output, `${PROGRAM}.rb`), formula(checksums));
  await writeTarGz(join(output, `${PROGRAM}-container.tar.gz`), containerFiles(script));
  await writeTarGz(join(output, `${PROGRAM}-extras.tar.gz`), withoutDocuments(files));
  for (const name of DOCUMENTS) await Deno.writeTextFile(join(output, name), files.get(name)!);
  await Deno.writeTextFile(join(output, `${PROGRAM}.cdx.json`), await sbom(Deno.version.deno));
  return await writeChecksums(output);
}

/** Returns the files that `deno task extras` writes. */
function withoutDocuments(files: ReadonlyMap<string, string>): Map<string, string> {
  return new Map([...files].filter(([name]) => !DOCUMENTS.includes(name) && name !== "README.md"));
}

/** Writes the checksums of a folder's files into it, as sha256sum(1) does. @returns All names. */
async function writeChecksums(folder: string): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(folder));
  const names = entries.map(({ name }) => name).filter((name) => name !== CHECKSUMS).toSorted();
  let lines = "";
  for (const name of names) lines += `${await sha256(join(folder, name))}  ${name}\n`;
  await Deno.writeTextFile(join(folder, CHECKSUMS), lines);
  return [...names, CHECKSUMS];
}

async function sha256(path: string): Promise<string> {
  return createHash("sha256").update(await Deno.readFile(path)).digest("hex");
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: { programs: { type: "string" }, output: { type: "string" } },
  });
  const names = await distribute(values.programs ?? "programs", values.output ?? "dist");
  console.log(names.join("\n"));
}
