/** Makes sure that git-annex serves this repository's address. */

import { join } from "node:path";
import { abortable } from "../async/abort.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { readTextAtMost } from "../platform/atomic_file.ts";
import { groupEnds, signalGroup } from "../platform/processes.ts";
import { ANNEX_URL_PREFIX } from "../repository/address.ts";
import { credsDir, readIdentity } from "../repository/identity.ts";
import { decodeTicket, samePublicKey } from "../repository/ticket.ts";
import type { Repository } from "../repository/repository.ts";

/** Maximum size of git-annex's list of addresses: some hundred addresses. */
const MAX_LIST_BYTES = 64 * 1024;
/** Timeout for `git annex p2p --enable iroh`, which takes a second. */
const ENABLE_TIMEOUT_MS = 60_000;

/** Timeout for what was killed to be gone. */
const KILLED_TIMEOUT_MS = 2_000;

/** git-annex cannot give the repository an address. */
export class EnableError extends Failure {
  override readonly name = "EnableError";
}

/** Returns the path of git-annex's list of the addresses that it serves. */
export function addressListPath(repository: Repository): string {
  return join(credsDir(repository), "p2paddrs");
}

/**
 * Returns the address that git-annex serves. If it serves none of this program, runs `git annex p2p --enable iroh`.
 *
 * @throws {EnableError} if that fails.
 */
export async function ensureEnabled(
  repository: Repository,
  folder: string,
  signal: AbortSignal,
): Promise<string> {
  const known = servedAddress(repository);
  if (known !== undefined) return known;
  await enable(folder, signal);
  const address = servedAddress(repository);
  if (address !== undefined) return address;
  throw new EnableError("git annex p2p --enable iroh has stored no address of this program", {
    hint: "run git-annex-p2p-iroh doctor",
  });
}

/**
 * Returns the address of this repository that git-annex serves; undefined if there is none. It may have been made
 * by another program, such as the shell script around dumbpipe, and then has the key in another form.
 */
function servedAddress(repository: Repository): string | undefined {
  const identity = readIdentity(repository);
  if (!identity) return undefined;
  const path = addressListPath(repository);
  let list = "";
  try {
    list = readTextAtMost(path, MAX_LIST_BYTES);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new EnableError(`cannot read ${path}, ${systemReason(error)}`, {
      hint: "correct its owner and mode",
      cause: error,
    });
  }
  const urls = list.split("\n").filter((line) => line.startsWith(ANNEX_URL_PREFIX));
  return urls.map((url) => url.slice(ANNEX_URL_PREFIX.length)).find((address) => {
    try {
      return samePublicKey(decodeTicket(address), identity);
    } catch (error) {
      if (error instanceof Failure) return false; // it is damaged
      throw error;
    }
  });
}

async function enable(folder: string, signal: AbortSignal): Promise<void> {
  const timeout = AbortSignal.timeout(ENABLE_TIMEOUT_MS);
  const limit = AbortSignal.any([signal, timeout]);
  let output: Deno.CommandOutput;
  try {
    const child = new Deno.Command("git", {
      args: ["annex", "p2p", "--enable", "iroh"],
      cwd: folder,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      detached: true, // a process group, to end git together with git-annex
    }).spawn();
    try {
      output = await abortable(child.output(), limit);
    } finally {
      if (signalGroup(child.pid, "SIGKILL")) await groupEnds(child.pid, KILLED_TIMEOUT_MS);
    }
  } catch (error) {
    signal.throwIfAborted();
    const reason = timeout.aborted
      ? `not done in ${ENABLE_TIMEOUT_MS / 1000} s`
      : systemReason(error);
    throw failed(reason, error);
  }
  if (output.code === 0) return;
  const text = new TextDecoder().decode(output.stderr).trim();
  const lines = text.split("\n").map((line) => line.replace(/^git-annex(-p2p-iroh)?: /, ""));
  throw failed(lines.find((line) => line.trim()) ?? `exit status ${output.code}`);
}

function failed(reason: string, cause?: unknown): EnableError {
  return new EnableError(`git annex p2p --enable iroh failed: ${reason}`, {
    hint: "run git-annex-p2p-iroh doctor",
    cause,
  });
}
