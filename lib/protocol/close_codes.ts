/** Why a connection is closed, as both protocols tell the peer. */

/**
 * Codes with which this program closes a connection, or resets a stream. dumbpipe closes with 0 whatever the
 * reason. A dialer that does not know a code shows the reason sent with it.
 */
export const CloseCode = {
  /** Both directions have ended, or the connection is no longer needed. */
  DONE: 0n,
  /** All permits of `max-connections` are in use. */
  BUSY: 1n,
  /** git-annex's socket does not answer. */
  NO_SERVICE: 2n,
  /** The program was told to stop. */
  STOPPED: 3n,
  /** The peer sent no handshake in time, or broke the protocol. */
  BAD_HELLO: 4n,
  /** git-annex did not let the peer in, in time. */
  NOT_AUTHENTICATED: 5n,
  /** The session ended before everything had been received. */
  BROKEN_OFF: 6n,
  /** A stream of a type that this program does not know. */
  UNSUPPORTED: 7n,
  /** This end takes the connection for lost; sessions may be resumed on another. */
  LOST: 8n,
} as const;

/** The reason sent with each code. */
export const CLOSE_REASONS: ReadonlyMap<bigint, string> = new Map([
  [CloseCode.DONE, ""],
  [CloseCode.BUSY, "too many connections"],
  [CloseCode.NO_SERVICE, "git annex remotedaemon is not running"],
  [CloseCode.STOPPED, "stopped"],
  [CloseCode.BAD_HELLO, "against the protocol"],
  [CloseCode.NOT_AUTHENTICATED, "not authenticated in time"],
  [CloseCode.BROKEN_OFF, "the session broke off"],
  [CloseCode.UNSUPPORTED, "unsupported"],
  [CloseCode.LOST, "the connection is lost"],
]);

/** The code and the reason with which a connection or a session is ended. */
export type CloseReason = readonly [code: bigint, reason: string];
