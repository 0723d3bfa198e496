/**
 * Finds the user's private folder for files that only matter while programs run: `git-annex-p2p-iroh` in
 * XDG_RUNTIME_DIR, or `git-annex-p2p-iroh-UID` in the temporary folder. Other users can write to the latter, so
 * a folder is not used if it belongs to another user or is open to others.
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { PROGRAM } from "../console/program.ts";
import { makePrivateFolder, privacyProblem } from "./private_folder.ts";

/** No folder for runtime files is private. */
export class RuntimeFolderError extends Failure {
  override readonly name = "RuntimeFolderError";
}

/**
 * Returns the first private folder for runtime files, which is made if it does not exist.
 *
 * @throws {RuntimeFolderError} if there is none.
 */
export async function ensureRuntimeFolder(paths = candidatePaths()): Promise<string> {
  const problems: string[] = [];
  for (const path of paths) {
    try {
      const problem = await makePrivateFolder(path);
      if (!problem) return path;
      problems.push(`${path} ${problem}`);
    } catch (error) {
      problems.push(`${path}: ${systemReason(error)}`);
    }
  }
  throw new RuntimeFolderError(`no private folder for runtime files, ${problems.join(", ")}`, {
    hint: "remove it, or set XDG_RUNTIME_DIR to a folder of your own",
  });
}

/**
 * Returns all private folders for runtime files. A listener that cron started has no XDG_RUNTIME_DIR, but the
 * terminal in which a process looks for it has one.
 */
export function runtimeFolders(paths = candidatePaths()): string[] {
  return paths.filter((path) => {
    try {
      return privacyProblem(path) === undefined;
    } catch {
      return false; // it does not exist
    }
  });
}

/** Returns the paths where the folder may be, in order of preference. */
export function candidatePaths(ofSession = Deno.env.get("XDG_RUNTIME_DIR")): string[] {
  const shared = join(tmpdir(), Deno.uid() === null ? PROGRAM : `${PROGRAM}-${Deno.uid()}`);
  // The XDG Base Directory Specification says to ignore a relative path.
  return ofSession?.startsWith("/") ? [join(ofSession, PROGRAM), shared] : [shared];
}
