/** Why a connection is closed, as both protocols tell the peer. */

/**
 * Codes with which this program closes a connection. dumbpipe only knows 0, and sends it for every
 * end; a dialer that knows no more shows the reason that goes with the code.
 */
export const CloseCode = {
  /** Both directions are through. */
  DONE: 0n,
  /** As many peers as `max-connections` allows are being served. */
  BUSY: 1n,
  /** Nobody listens on git-annex's socket. */
  NO_SERVICE: 2n,
  /** The program was told to stop. */
  STOPPED: 3n,
  /** No hello, or not in time. */
  BAD_HELLO: 4n,
  /** git-annex did not let the peer in, in the time a peer has for that. */
  NOT_AUTHENTICATED: 5n,
  /** The session ended before all had come. */
  BROKEN_OFF: 6n,
  /** A stream of a type that this program does not know. */
  UNSUPPORTED: 7n,
  /** This end takes the connection for lost; sessions may be resumed on another. */
  LOST: 8n,
} as const;

/** What the codes mean, as it is sent with them. */
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
