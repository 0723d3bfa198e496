/** Packages for Debian and for Fedora and its relatives, made by nfpm. */

import { join } from "node:path";
import { PROGRAM } from "../../lib/console/program.ts";
import { withFiles } from "./archives.ts";
import { FILE_TIME_S, METADATA } from "./metadata.ts";
import { PLACES } from "./files.ts";
import { run } from "./run.ts";

/** Formats of packages. */
export const PACKAGERS = ["deb", "rpm"] as const;
/** Time of the package and its files, in nfpm's form. */
const TIME = new Date(FILE_TIME_S * 1000).toISOString();

/**
 * Returns nfpm's configuration.
 *
 * @param arch Architecture, by Go's name.
 * @param folder Folder with the program and its companions.
 */
export function nfpmConfig(arch: string, folder: string): unknown {
  const content = (src: string, dst: string, mode: number) => ({
    src: join(folder, src),
    dst: `/usr/${dst}`,
    file_info: { mode, mtime: TIME, owner: "root", group: "root" },
  });
  return {
    name: METADATA.name,
    arch,
    platform: "linux",
    version: METADATA.version,
    release: "1",
    section: "net",
    priority: "optional",
    maintainer: METADATA.maintainer,
    description: `${METADATA.summary}\n${METADATA.description}`, // a synopsis, then the rest
    homepage: METADATA.homepage,
    license: METADATA.license,
    mtime: TIME,
    contents: [
      content(PROGRAM, `bin/${PROGRAM}`, 0o755),
      ...Object.entries(PLACES).map(([src, dst]) => content(src, dst, 0o644)),
    ],
    // Not "depends": Debian 12 has a git-annex that is too old, so that users install another one.
    recommends: ["git", "git-annex"],
    suggests: ["magic-wormhole"],
    overrides: {
      deb: { depends: [`libc6 (>= ${METADATA.glibc})`] },
      rpm: { depends: [`glibc >= ${METADATA.glibc}`] },
    },
    deb: { compression: "zstd" },
    rpm: {
      compression: "zstd",
      summary: METADATA.summary,
      packager: METADATA.maintainer,
      buildhost: "localhost", // by default this machine's name, which would differ
    },
  };
}

/** Makes the packages with `nfpm` on PATH. @param output Folder for them. */
export async function writePackages(
  arch: string,
  program: Uint8Array,
  companions: ReadonlyMap<string, string>,
  output: string,
): Promise<void> {
  const files = [...companions].map(([name, text]) => ({
    name,
    content: new TextEncoder().encode(text),
    mode: 0o644,
  }));
  await withFiles([...files, { name: PROGRAM, content: program, mode: 0o755 }], async (folder) => {
    const config = join(folder, "nfpm.json"); // nfpm reads YAML, of which JSON is a part
    await Deno.writeTextFile(config, JSON.stringify(nfpmConfig(arch, folder)));
    const env = { SOURCE_DATE_EPOCH: `${FILE_TIME_S}` };
    for (const packager of PACKAGERS) {
      const args = ["package", "--config", config, "--packager", packager, "--target", output];
      await run("nfpm", args, { env });
    }
  });
}
