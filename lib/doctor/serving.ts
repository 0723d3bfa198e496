/** Checks that a repository has an identity and is being served. */

import { dirname } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { isRemoteDaemon } from "../connect/started_by.ts";
import { Failure } from "../console/failure.ts";
import { PROGRAM } from "../console/program.ts";
import { type Identity, identityPath, readIdentity } from "../repository/identity.ts";
import { otherVersion } from "../control/locator.ts";
import { servingOf } from "../listener/listener_file.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import type { Repository } from "../repository/repository.ts";
import { decodeTicket, samePublicKey } from "../repository/ticket.ts";
import { describeUp, runningUp, upLogPath } from "../supervisor/entry.ts";
import { failure, type Finding, ok, warning } from "./finding.ts";

/** Checks that the secret key is there, valid and private. */
export async function checkIdentity(repository: Repository): Promise<Finding> {
  const path = identityPath(repository);
  try {
    if (!readIdentity(repository)) {
      const command = Deno.build.os === "windows" ? "git annex p2p --enable iroh" : `${PROGRAM} up`;
      return failure("this repository has no identity", `run ${command}, which makes one`);
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return failure(error.message, error.hint ?? "repair it");
  }
  const { mode } = await Deno.stat(path);
  if (Deno.build.os !== "windows" && mode! & 0o077) {
    return warning(`others may read the identity file ${path}`, `run chmod 600 ${path}`);
  }
  return ok(`identity file ${path}`);
}

/** Checks that one remotedaemon and one listener run. */
export async function checkListener(repository: Repository): Promise<Finding> {
  const log = `${listenerFolder(repository)}/log`;
  const [{ listeners, daemons }, serving, up] = await Promise.all([
    processesOf(repository),
    servingOf(repository),
    runningUp(repository),
  ]);
  const recorded = serving && "pid" in serving ? serving.pid : undefined;
  if (listeners.length > 1) {
    return failure(
      `${listeners.length} processes serve this repository: ${listeners.join(", ")}`,
      `wait 15 s for replaced ones to end, then end all but ${recorded ?? "one"}`,
    );
  }
  if (daemons.length > 1) {
    return failure(
      `git annex remotedaemon is running ${daemons.length} times: ${daemons.join(", ")}`,
      "end all but one",
    );
  }
  // The recorded process may have been killed. On Linux the list of processes tells.
  const pid = Deno.build.os === "linux" ? listeners[0] : recorded;
  const keeper = up ? `${describeUp(up)}, process ${up.pid}` : "";
  if (pid !== undefined) {
    const isKept = up?.state === "serving" || up?.state === "starting";
    return ok(`process ${pid} serves this repository${isKept ? `, kept by ${keeper}` : ""}`);
  }
  if (up) {
    return failure(
      `${keeper} runs, but nothing serves this repository`,
      `look again in a minute, or look for the reason in ${upLogPath(repository)}`,
    );
  }
  if (daemons.length > 0) {
    return failure(
      `git annex remotedaemon is running (${daemons[0]}), but no process serves this repository`,
      `restart remotedaemon, and look for the reason in ${log}`,
    );
  }
  if (serving && "elsewhere" in serving) {
    return ok(`this repository is served on ${serving.elsewhere}, as its files say`);
  }
  return warning(
    "this repository is not being served, so peers do not reach it",
    Deno.build.os === "windows"
      ? "use WSL, since git-annex cannot serve on Windows"
      : `run ${PROGRAM} up, or ${PROGRAM} up --install to serve it from login or boot on`,
  );
}

/** Checks that the listener, if there is one, is of this version. */
export async function checkVersion(repository: Repository): Promise<Finding[]> {
  const version = otherVersion(repository);
  if (version === undefined || !await servingOf(repository)) return [];
  return [warning(
    `the listener is of version ${version} and this program of version ${config.version}, ` +
      "so no connection goes through the listener",
    "restart up or git annex remotedaemon",
  )];
}

/** Returns the process ids of a repository's listeners and remotedaemons, on Linux (proc(5)). */
async function processesOf(
  repository: Repository,
): Promise<{ listeners: number[]; daemons: number[] }> {
  const listeners: number[] = [], daemons: number[] = [];
  if (Deno.build.os !== "linux") return { listeners, daemons };
  const identity = identityOf(repository);
  const folders = [repository.gitDir, dirname(repository.gitDir)];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const commandLine = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => ""); // it has ended
    const args = commandLine.split("\0").slice(0, -1);
    if (identity && serves(args, identity)) listeners.push(Number(name));
    if (!isRemoteDaemon(args.join(" "))) continue;
    const cwd = await Deno.readLink(`/proc/${name}/cwd`).catch(() => ""); // a process of another user
    if (folders.includes(cwd)) daemons.push(Number(name));
  }
  return { listeners, daemons };
}

function identityOf(repository: Repository): Identity | undefined {
  try {
    return readIdentity(repository);
  } catch {
    return undefined; // checkIdentity() reports it
  }
}

/** Tells whether a command line is that of a listener, of this program or of one with its name. */
function serves(args: readonly string[], identity: Identity): boolean {
  const [address, socket] = args.slice(-2);
  if (!address?.startsWith("endpoint") || !socket) return false;
  try {
    return samePublicKey(decodeTicket(address), identity);
  } catch (error) {
    if (error instanceof Failure) return false; // it only starts like an address
    throw error;
  }
}
