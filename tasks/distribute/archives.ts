/** Archives with a program and its companions: `.tar.xz` for Unix, `.zip` for Windows. */

import { dirname, join } from "node:path";
import { PROGRAM } from "../../lib/console/program.ts";
import { zip } from "../zip.ts";
import { FILE_TIME_S, VERSION } from "./metadata.ts";
import { run } from "./run.ts";

/** Folder in each archive. */
export const FOLDER = `${PROGRAM}-${VERSION}`;
const PROGRAM_MODE = 0o755, FILE_MODE = 0o644;
/** Two threads or more give the same bytes, and one thread gives others (xz(1)). */
const XZ = "xz -6 --threads=2";
/** Without a time in the header (gzip(1)). */
const GZIP = "gzip -9n";

/** A file of an archive. */
export interface ArchivedFile {
  readonly name: string;
  readonly content: Uint8Array;
  readonly mode: number;
}

/** Returns the files of an archive, in its folder. */
export function archivedFiles(
  program: Uint8Array,
  suffix: string,
  companions: ReadonlyMap<string, string>,
): ArchivedFile[] {
  const files = [{
    name: `${FOLDER}/${PROGRAM}${suffix}`,
    content: program,
    mode: PROGRAM_MODE,
  }];
  for (const [name, text] of companions) {
    const content = new TextEncoder().encode(text);
    files.push({ name: `${FOLDER}/${name}`, content, mode: FILE_MODE });
  }
  return files;
}

/** Writes a ZIP archive. */
export async function writeZip(path: string, files: readonly ArchivedFile[]): Promise<void> {
  await Deno.writeFile(path, zip(files));
}

/** Writes a compressed archive of files in a folder. */
export async function writeTarXz(path: string, files: readonly ArchivedFile[]): Promise<void> {
  await withFiles(files, (folder) => tar(path, XZ, folder, FOLDER));
}

/** Writes a compressed archive of texts, in no folder. */
export async function writeTarGz(path: string, texts: ReadonlyMap<string, string>): Promise<void> {
  const files = [...texts].map(([name, text]) => ({
    name,
    content: new TextEncoder().encode(text),
    mode: FILE_MODE,
  }));
  await withFiles(files, (folder) => tar(path, GZIP, folder, "."));
}

/** Calls a function with a temporary folder that has the files. */
export async function withFiles(
  files: readonly ArchivedFile[],
  use: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "archive-" });
  try {
    for (const { name, content, mode } of files) {
      const file = join(folder, name);
      await Deno.mkdir(dirname(file), { recursive: true });
      await Deno.writeFile(file, content);
      await Deno.chmod(file, mode);
    }
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Writes an archive with GNU tar, which is the same for the same files. */
async function tar(path: string, compressor: string, folder: string, what: string): Promise<void> {
  const who = ["--owner=0", "--group=0", "--numeric-owner", "--mode=u+w,go=rX"];
  const flags = ["--sort=name", `--mtime=@${FILE_TIME_S}`, "--format=gnu", ...who];
  const compress = `--use-compress-program=${compressor}`;
  await run("tar", [...flags, compress, "-cf", path, "-C", folder, what]);
}
