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
  /** Forgets that a peer was away, since the user knows better. */
  | { readonly want: "forget"; readonly address: string }
  /** Waits until a peer is there. `daemon` is the process id of the remotedaemon that dials the peer. */
  | { readonly want: "peer"; readonly address: string; readonly daemon: number }
  /** Reports the listener's status. */
  | { readonly want: "status" }
  /** Has the listener keep an invitation. Events follow the answer, unless it is detached. */
  | ({ readonly want: "invite" } & NewInvitation)
  /** Lists the invitations that the listener keeps. */
  | { readonly want: "invitations" }
  /** Withdraws invitations. */
  | { readonly want: "withdraw"; readonly ids: readonly string[] | "all" };

/** An invitation for the listener to keep. It never learns the secret. */
export interface NewInvitation {
  /** SHA-256 of the secret, in hex (pairing/invitation.ts). */
  readonly hash: string;
  /** What the joiner's repository is to be called here; undefined for what the joiner says. */
  readonly name: string | undefined;
  /** How long it is valid. */
  readonly validMs: number;
  /** Whether it stays valid when the process has ended, and when the listener is started again. */
  readonly isDetached: boolean;
}

/** What the listener says of an invitation. */
export interface ListedInvitation {
  /** Short id for people: the first hexadecimal digits of the hash. */
  readonly id: string;
  readonly name: string | undefined;
  /** When it expires: an ISO 8601 date. */
  readonly expires: string;
  readonly isDetached: boolean;
  /** `open`: not used yet; `joining`: a joiner has used it and is not done; `joined`: it is over. */
  readonly state: "open" | "joining" | "joined";
  /** Name of the joiner's remote, once it has been chosen. */
  readonly remote: string | undefined;
}

/** What happens to an invitation. */
export type InvitationEvent =
  /** A joiner has used it. @param name What the joiner calls itself. */
  | { readonly kind: "joining"; readonly name: string }
  /** The joiner is a remote, and has made this repository one. The last event. */
  | { readonly kind: "joined"; readonly remote: string; readonly wasLinked: boolean }
  /** A step has failed, here or at the joiner, which may try again. @param message Why. */
  | { readonly kind: "failed"; readonly message: string }
  /**
   * It is no longer valid; `stopped`: since the listener stops. The last event.
   *
   * @param isUndone Whether a joiner's remote was removed again.
   */
  | { readonly kind: "expired" | "withdrawn" | "stopped"; readonly isUndone: boolean }
  /** The joiner has given up, and what was begun is undone. The last event. @param message Why. */
  | { readonly kind: "cancelled"; readonly message: string; readonly isUndone: boolean };
