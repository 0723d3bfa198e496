/** Whether a repository has an identity, and is being served. */

import { basename, dirname } from "node:path";
import { Failure } from "../console/failure.ts";
import { type Identity, identityPath, readIdentity } from "../repository/identity.ts";
import { listenerFolder, runningListener } from "../listener/lifecycle.ts";
import type { Repository } from "../repository/repository.ts";
import { decodeTicket, samePublicKey } from "../repository/ticket.ts";
import { failure, type Finding, ok, warning } from "./finding.ts";

/** The secret key: there, sound and private. */
export async function checkIdentity(repository: Repository): Promise<Finding> {
  const path = identityPath(repository);
  try {
    if (!await readIdentity(repository)) {
      return failure("this repository has no identity", "run git annex p2p --enable iroh");
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return failure(error.message, error.hint ?? "mend it");
  }
  const { mode } = await Deno.stat(path);
  if (Deno.build.os !== "windows" && mode! & 0o077) {
    return warning(`others may read the identity file ${path}`, `run chmod 600 ${path}`);
  }
  return ok(`identity file ${path}`);
}

/** remotedaemon and listener: one of each. */
export async function checkListener(repository: Repository): Promise<Finding> {
  const log = `${listenerFolder(repository)}/log`;
  const [{ listeners, daemons }, noted] = await Promise.all([
    processesOf(repository),
    runningListener(repository),
  ]);
  if (listeners.length > 1) {
    return failure(
      `${listeners.length} processes serve this repository: ${listeners.join(", ")}`,
      `one that was replaced goes on for 15 s at most; if they stay, end those but ${noted}`,
    );
  }
  if (daemons.length > 1) {
    return failure(
      `git annex remotedaemon is running ${daemons.length} times: ${daemons.join(", ")}`,
      "end all but one",
    );
  }
  // Where processes can be looked at, a listener that was killed is not taken for one that runs.
  const pid = Deno.build.os === "linux" ? listeners[0] : noted;
  if (pid !== undefined) return ok(`process ${pid} serves this repository`);
  if (daemons.length > 0) {
    return failure(
      `git annex remotedaemon is running (${daemons[0]}), and nobody serves this repository`,
      `start it again; why it ended may be in ${log}`,
    );
  }
  return warning(
    "this repository is not being served, so peers do not reach it",
    Deno.build.os === "windows"
      ? "Windows lacks what git-annex needs for that; use WSL"
      : "run git annex remotedaemon",
  );
}

/** Ids of processes, where they can be looked at (Linux, proc(5)). */
async function processesOf(
  repository: Repository,
): Promise<{ listeners: number[]; daemons: number[] }> {
  const listeners: number[] = [], daemons: number[] = [];
  if (Deno.build.os !== "linux") return { listeners, daemons };
  const identity = await readIdentity(repository).catch(() => undefined); // another check's matter
  const folders = [repository.gitDir, dirname(repository.gitDir)];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const line = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => ""); // it has ended
    const args = line.split("\0").slice(0, -1);
    if (identity && serves(args, identity)) listeners.push(Number(name));
    if (basename(args[0] ?? "") !== "git-annex" || args[1] !== "remotedaemon") continue;
    const cwd = await Deno.readLink(`/proc/${name}/cwd`).catch(() => ""); // somebody else's
    if (folders.includes(cwd)) daemons.push(Number(name));
  }
  return { listeners, daemons };
}

/** Whether a command line is that of this program, or of another in its place, serving. */
function serves(args: readonly string[], identity: Identity): boolean {
  const [address, socket] = args.slice(-2);
  if (!address?.startsWith("endpoint") || !socket) return false;
  try {
    return samePublicKey(decodeTicket(address), identity);
  } catch (error) {
    if (error instanceof Failure) return false; // it only begins like an address
    throw error;
  }
}
