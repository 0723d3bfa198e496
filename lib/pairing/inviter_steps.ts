/**
 * What the inviter's listener has done in its repository for a joiner, with git and git-annex: annex_steps.ts does it.
 */

import type { AnnexLine } from "./annex_line.ts";
import type { Welcome } from "./messages.ts";

/** A joiner, as the inviter's repository is to know it. */
export interface Joiner {
  /** `--name` of the invitation, or else what the joiner calls itself: printable, and no name of a remote yet. */
  readonly name: string;
  /** URL of its remote, without token: `p2p-annex::iroh:ADDRESS`. */
  readonly url: string;
}

/** What is to be done for a joiner. */
export interface LinkPlan {
  /** Name of the remote: clean and free, or that of the remote that the joiner is already. */
  readonly remote: string;
  /** Whether the joiner is a remote already. Then neither link() nor unlink() follows. */
  readonly isLinked: boolean;
}

/**
 * The steps of the inviter's side. The listener calls them in this order for one joiner, and one at a time for
 * all. Each can be interrupted anywhere, also by the end of the listener, and is then called again with the
 * same arguments by the next request of the joiner, or {@linkcode unlink} is. Each ends all that it has
 * started if the signal aborts. A {@linkcode Failure} tells the joiner its message; other errors tell it nothing.
 */
export interface InviterSteps {
  /**
   * Returns what the joiner needs, with a token of its own: the same one at the next call for this joiner.
   *
   * @param joiner What the listener knows the joiner by, such as the hash of the secret that it has used.
   */
  welcome(joiner: string, signal: AbortSignal): Promise<Welcome>;
  /** Chooses a name for the joiner's remote. Changes nothing. */
  planLink(joiner: Joiner, signal: AbortSignal): Promise<LinkPlan>;
  /** Makes the joiner a remote with this name. If it is that already, does what is left to do. */
  link(remote: string, line: AnnexLine, signal: AbortSignal): Promise<void>;
  /** Removes a remote that has this name and this URL, and what link() has set. Does nothing if there is none. */
  unlink(remote: string, url: string, signal: AbortSignal): Promise<void>;
  /**
   * Called once for each welcomed joiner when its invitation is over.
   *
   * @param isLinked Whether the joiner is linked and keeps its token; otherwise another joiner gets it.
   */
  settle(joiner: string, isLinked: boolean): Promise<void>;
}
