/**
 * Finds the user's private folder for files that only matter while programs run, such as sockets.
 *
 * It has one of several places, since none of them can always be used:
 *
 * - The system removes the folder of a session when the user logs out.
 * - Another user may have taken the name in the folder for temporary files.
 * - A path may be too long for the address of a socket.
 *
 * A folder is not used if it belongs to another user or is open to others.
 */

import { join } from "node:path";
import { type Environment, variable } from "../console/environment.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { PROGRAM } from "../console/program.ts";
import { makePrivateFolder, privacyProblem } from "./private_folder.ts";
import { fitsSocketAddress } from "./socket_address.ts";
import { cacheFolder, temporaryFolder } from "./user_folders.ts";

/** Maximum length of the name of a socket in the folder. */
export const SOCKET_NAME_CHARACTERS = "0123456789ab.control".length;

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

/**
 * Returns the paths where the folder may be, in order of preference:
 *
 * 1. in the folder of the session, XDG_RUNTIME_DIR, or where systemd has it
 * 2. in the folder for temporary files
 * 3. the cache folder of this program, which no other user can take
 */
export function candidatePaths(
  env: Environment = variable,
  uid: number | null = Deno.uid(),
): string[] {
  if (uid === null) return [join(temporaryFolder(env), PROGRAM)]; // Windows: it is the user's
  const session = env("XDG_RUNTIME_DIR"), cache = cacheFolder(env);
  const paths = [
    // The XDG Base Directory Specification says to ignore a relative path.
    ...session?.startsWith("/") ? [join(session, PROGRAM)] : [],
    ...Deno.build.os === "linux" ? [join("/run/user", String(uid), PROGRAM)] : [],
    join(temporaryFolder(env), `${PROGRAM}-${uid}`),
    join("/tmp", `${PROGRAM}-${uid}`),
    ...cache?.startsWith("/") ? [join(cache, PROGRAM)] : [],
  ];
  const longest = "x".repeat(SOCKET_NAME_CHARACTERS);
  return [...new Set(paths)].filter((path) => fitsSocketAddress(join(path, longest)));
}
