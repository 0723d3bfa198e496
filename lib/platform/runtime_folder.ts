/**
 * The private folder of a user for what only matters while programs run: `git-annex-p2p-iroh` in
 * XDG_RUNTIME_DIR, or `git-annex-p2p-iroh-UID` in the temporary directory. Since others can write to
 * the latter, a folder that is not the user's own, or open to others, is not used.
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure, systemReason } from "../console/failure.ts";
import { makePrivateFolder, whatIsWrong } from "./private_folder.ts";

/** There is no folder for this user's runtime files that can be trusted. */
export class RuntimeFolderError extends Failure {
  override readonly name = "RuntimeFolderError";
}

/**
 * The folder to write to; made if it is missing.
 *
 * @throws {RuntimeFolderError} if none can be had.
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
 * The folders to read: a listener that was started by cron has no XDG_RUNTIME_DIR, while the
 * terminal it is looked for from has one.
 */
export function runtimeFolders(paths = candidatePaths()): string[] {
  return paths.filter((path) => {
    try {
      return whatIsWrong(path) === undefined;
    } catch {
      return false; // it is not there
    }
  });
}

/** Where the folder may be, in order of preference. */
export function candidatePaths(ofSession = Deno.env.get("XDG_RUNTIME_DIR")): string[] {
  const name = "git-annex-p2p-iroh";
  const shared = join(tmpdir(), Deno.uid() === null ? name : `${name}-${Deno.uid()}`);
  // The specification wants a relative path ignored.
  return ofSession?.startsWith("/") ? [join(ofSession, name), shared] : [shared];
}
