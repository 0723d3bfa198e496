/** Why this program turns a peer away, and the close code that tells the peer. */

import { HandshakeError } from "../protocol/dumbpipe.ts";
import { ProtocolError } from "../protocol/mux.ts";
import { CLOSE_REASONS, CloseCode, type CloseReason } from "../protocol/close_codes.ts";
import { Evicted } from "./admission.ts";

/** The listener stops. */
export class Stopped extends Error {
  override readonly name = "Stopped";

  constructor() {
    super("this program was told to stop");
  }
}

/** git-annex did not admit the peer in time. */
export class NotAuthenticated extends Error {
  override readonly name = "NotAuthenticated";

  constructor(timeoutMs: number) {
    super(`it did not authenticate within ${timeoutMs / 1000} s`);
  }
}

/** The peer has sent wrong secrets of invitations. */
export class NotInvited extends Error {
  override readonly name = "NotInvited";

  constructor() {
    super("it has no valid invitation");
  }
}

/** The listener has no permit left, or the queue of git-annex's socket is full. */
export class Busy extends Error {
  override readonly name = "Busy";

  constructor() {
    super("git-annex takes no more connections now");
  }
}

/** git-annex's socket does not answer. */
export class NoService extends Error {
  override readonly name = "NoService";
}

/** Returns the code and reason with which to close the connection or session of a peer. */
export function closeReasonFor(error: unknown): CloseReason {
  const code = closeCode(error);
  return [code, error instanceof HandshakeError ? "no hello" : CLOSE_REASONS.get(code)!];
}

function closeCode(error: unknown): bigint {
  if (error instanceof Evicted || error instanceof Busy) return CloseCode.BUSY;
  if (error instanceof NoService) return CloseCode.NO_SERVICE;
  if (error instanceof ProtocolError || error instanceof HandshakeError) return CloseCode.BAD_HELLO;
  if (error instanceof NotAuthenticated || error instanceof NotInvited) {
    return CloseCode.NOT_AUTHENTICATED;
  }
  return CloseCode.STOPPED;
}
