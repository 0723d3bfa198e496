/** What a process of the repository can ask of its running listener. */

/** The first message of a process; beside it stands the cookie. */
export type Request =
  /** A stream to a peer for git-annex's bytes. */
  | { readonly want: "session"; readonly address: string }
  /** A stream on which to agree on a lane, for a session by what the answer to it said. */
  | { readonly want: "lane"; readonly session: string }
  /** What is going on. */
  | { readonly want: "status" };
