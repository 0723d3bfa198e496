/** An outbound session, which carries git-annex's bytes to a peer and back by whichever transport. */

import { type Duplex, StreamError } from "../streams/duplex.ts";
import { CloseCode } from "../protocol/close_codes.ts";

/** The session that is wanted. */
export interface Wanted {
  /** Address of the peer. */
  readonly address: string;
  /** Called when the session migrates to a lane. */
  readonly onLane: () => void;
  /** Tells whether git-annex has closed neither stdin nor stdout. */
  readonly isCallerThere: () => boolean;
  readonly signal: AbortSignal;
}

/** A session that this process has opened. Dispose of it when it is over. */
export interface OutboundSession extends Disposable {
  readonly stream: Duplex;
  /** Ends it when both directions have ended. */
  finish(): Promise<void>;
  /** Ends it early, and tells the peer. @param error What has ended it. */
  giveUp(error: unknown): Promise<void>;
}

/** Returns the close code for a session that ends early. @param error What has ended it. */
export function abortCode(error: unknown): bigint {
  const isLost = error instanceof StreamError && error.kind === "lost";
  return isLost ? CloseCode.BROKEN_OFF : CloseCode.STOPPED;
}
