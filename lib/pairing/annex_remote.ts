/** The git remote that git-annex makes of a peer. git-annex's own commands make it; nothing edits its files. */

import { delay } from "../async/abort.ts";
import { Failure } from "../console/failure.ts";
import { outputIn, reasonOf, runIn } from "../repository/git_annex.ts";
import { decodeTicket, samePublicKey } from "../repository/ticket.ts";
import { remoteUrls } from "../repository/repository.ts";
import { ANNEX_URL_PREFIX } from "../repository/address.ts";
import type { AnnexLine } from "./annex_line.ts";
import { type AnnexPlace, configValue } from "./annex_place.ts";

/**
 * Cost of a remote that is linked: between a local one (100) and a special remote (200). git-annex itself takes 1000,
 * and would ask a paid cloud first.
 */
export const REMOTE_COST = 150;
/** Timeout for `git annex p2p --link`: a dial takes at most 25 s. */
const LINK_TIMEOUT_MS = 40_000;
/** Time in which git is asked again to remove a remote. Another git may hold the lock of its config for a moment. */
const REMOVAL_TRIES_MS = 3_000, REMOVAL_INTERVAL_MS = 100;

/** git-annex cannot make a peer a remote. */
export class LinkFailed extends Failure {
  override readonly name = "LinkFailed";
}

/** Returns the remote that has a peer's key; undefined if there is none. @throws {RepositoryError} */
export async function remoteOfPeer(
  { repository }: AnnexPlace,
  publicKey: Uint8Array,
): Promise<{ readonly name: string; readonly url: string } | undefined> {
  const urls = await remoteUrls(repository);
  return urls.find(({ url }) => hasKey(url, publicKey));
}

function hasKey(url: string, publicKey: Uint8Array): boolean {
  if (!url.startsWith(ANNEX_URL_PREFIX)) return false;
  try {
    return samePublicKey(decodeTicket(url.slice(ANNEX_URL_PREFIX.length)), { publicKey });
  } catch (error) {
    if (error instanceof Failure) return false; // it is damaged
    throw error;
  }
}

/** Returns the names of all remotes. @throws {CommandFailed} */
export async function remoteNames(
  { folder }: AnnexPlace,
  signal: AbortSignal,
): Promise<Set<string>> {
  const output = await outputIn(folder, ["remote"], signal);
  return new Set(output.split("\n").filter((name) => name));
}

/**
 * Makes a peer a remote, and sets its cost unless one is set. If the remote is there, an interrupted attempt may have
 * made only a part of it, so it is made anew.
 *
 * @param name Name of the remote, of {@linkcode remoteName}. It is free, or the remote has this peer's URL.
 * @throws {LinkFailed} No remote is left then. @throws {CommandFailed} @throws The signal's reason.
 */
export async function linkRemote(
  place: AnnexPlace,
  name: string,
  { url, line }: AnnexLine,
  signal: AbortSignal,
): Promise<{ readonly isCostSet: boolean }> {
  const { folder } = place;
  await unlinkRemote(place, name, url, signal);
  try {
    const args = ["annex", "p2p", "--link", `--name=${name}`];
    const options = { stdin: `${line}\n`, timeoutMs: LINK_TIMEOUT_MS };
    const run = await runIn(folder, args, signal, options);
    // If another remote has that name, git-annex says that all is well.
    const made = await configValue(folder, `remote.${name}.url`, signal);
    if (run.code !== 0 || made !== url) {
      const reason = run.code === 0 ? `there is another remote ${name}` : reasonOf(run);
      throw new LinkFailed(`git annex p2p --link failed: ${withoutToken(reason, line)}`);
    }
    return { isCostSet: await setCost(folder, name, signal) };
  } catch (error) {
    await unlinkRemote(place, name, url, new AbortController().signal).catch(() => {}); // the first error counts
    throw error;
  }
}

/**
 * Removes a remote that has this name and this URL, with its settings. If git cannot do it, git is asked again for a
 * while.
 *
 * @throws {CommandFailed} @throws The signal's reason.
 */
export async function unlinkRemote(
  { folder }: AnnexPlace,
  name: string,
  url: string,
  signal: AbortSignal,
  { triesMs = REMOVAL_TRIES_MS }: { readonly triesMs?: number } = {},
): Promise<void> {
  const deadline = performance.now() + triesMs;
  while (await configValue(folder, `remote.${name}.url`, signal) === url) {
    try {
      return void await outputIn(folder, ["remote", "remove", name], signal);
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await delay(REMOVAL_INTERVAL_MS, signal);
    }
  }
}

/** Sets the cost of a remote, unless the user has set one, perhaps for all. @returns Whether it is set now. */
async function setCost(folder: string, name: string, signal: AbortSignal): Promise<boolean> {
  const own = `remote.${name}.annex-cost`;
  for (const key of [own, `${own}-command`, "annex.cost"]) {
    if (await configValue(folder, key, signal) !== undefined) return false;
  }
  await outputIn(folder, ["config", own, `${REMOTE_COST}`], signal);
  return true;
}

/** Removes a token from a text, should git-annex ever print one. */
function withoutToken(text: string, line: string): string {
  return text.replaceAll(line.split(":").at(-1)!, "…");
}
