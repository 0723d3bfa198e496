/** Requests of a process to the running listener of its repository. */

/** The body of REQUEST, without its cookie. */
export type Request =
  /** Opens a session with a peer, or resumes one whose connection was lost. */
  | {
    readonly want: "session";
    readonly address: string;
    readonly id: string;
    readonly isResumed: boolean;
    /** The id of the git config in the locator, if the process relies on that, so that the listener confirms it. */
    readonly config?: string | undefined;
  }
  /** Opens the signaling stream of a lane. `session` is the id in the answer to the session's request. */
  | { readonly want: "lane"; readonly session: string }
  /** Reports the listener's status. */
  | { readonly want: "status" };
