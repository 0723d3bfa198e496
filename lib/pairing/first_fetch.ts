/** What the joiner fetches from the inviter after they are linked. */

import { fetchAgain, type FetchLimits } from "../repository/fetch.ts";
import { outputIn, runIn } from "../repository/git_annex.ts";
import { type AnnexPlace, currentBranch, specialRemotes } from "./annex_place.ts";

/** git-annex's fetch hangs now and then, with any transport: 2 of 10 over a bare pipe. */
const LIMITS: FetchLimits = { attempts: 5, hungMs: 15_000 };

/** Timeout for the checkout: some million files on a slow disk. */
const CHECKOUT_TIMEOUT_MS = 60 * 60_000;

/** What has been fetched. */
export interface FirstFetch {
  /** Why nothing was fetched; empty if it was. */
  readonly failed: string;
  /** The branch that was checked out; undefined if the inviter has no commit, or if this repository had one. */
  readonly checkedOut: string | undefined;
  /** The branch here, if it is not the inviter's: then `git annex sync` merges neither into the other. */
  readonly otherBranch: string | undefined;
  /** Whether both have commits, and no common one. */
  readonly isUnrelated: boolean;
  /** Special remotes of the inviter, which may be enabled here. */
  readonly specialRemotes: readonly string[];
}

/** What is fetched. */
export interface FirstFetchOptions {
  /** Name of the inviter's remote. */
  readonly remote: string;
  /** The inviter's branch, as {@linkcode checkedBranch} returns it. */
  readonly branch: string | undefined;
  /** Whether `join` has made this repository. */
  readonly isNew: boolean;
}

/**
 * Fetches from the inviter. In a new repository, checks out the inviter's branch.
 *
 * @throws {CommandFailed} @throws The signal's reason.
 */
export async function firstFetch(
  place: AnnexPlace,
  { remote, branch, isNew }: FirstFetchOptions,
  signal: AbortSignal,
): Promise<FirstFetch> {
  const { folder } = place;
  const { isSuccess, reason } = await fetchAgain(folder, remote, signal, LIMITS);
  const nothing = {
    failed: reason,
    checkedOut: undefined,
    otherBranch: undefined,
    isUnrelated: false,
    specialRemotes: [],
  };
  if (!isSuccess) return nothing;
  const names = await specialRemotes(place, `refs/remotes/${remote}/git-annex`, signal);
  const fetched = { ...nothing, specialRemotes: names };
  const start = branch === undefined ? undefined : await startOf(folder, remote, branch, signal);
  if (start === undefined) return fetched;
  if (isNew) {
    const track = start === `${remote}/${branch}` ? "--track" : "--no-track";
    const args = ["checkout", "--quiet", "-B", branch!, track, start];
    await outputIn(folder, args, signal, { timeoutMs: CHECKOUT_TIMEOUT_MS });
    return { ...fetched, checkedOut: branch };
  }
  const own = await currentBranch(place, signal);
  if (own !== undefined && own !== branch) return { ...fetched, otherBranch: own };
  const head = await runIn(folder, ["rev-parse", "--quiet", "--verify", "HEAD"], signal);
  if (head.code !== 0) return fetched; // there is no commit here
  const base = await runIn(folder, ["merge-base", "HEAD", start], signal);
  return { ...fetched, isUnrelated: base.code === 1 };
}

/**
 * Returns the fetched branch; undefined if it has no commit. In a bare repository, git-annex may have only the branch
 * to which it syncs.
 */
async function startOf(
  folder: string,
  remote: string,
  branch: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  for (const name of [`${remote}/${branch}`, `${remote}/synced/${branch}`]) {
    const args = ["rev-parse", "--quiet", "--verify", `refs/remotes/${name}^{commit}`];
    if ((await runIn(folder, args, signal)).code === 0) return name;
  }
  return undefined;
}
