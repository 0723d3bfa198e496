/**
 * The plain wire: dumbpipe's, so that either end may be dumbpipe.
 *
 * The dialer opens one bidirectional stream and sends {@linkcode HELLO}; from then on the stream
 * carries the user's bytes both ways, and each direction ends with the end of the stream.
 * https://github.com/n0-computer/dumbpipe/blob/main/src/lib.rs
 */

import type { Duplex } from "../streams/duplex.ts";

/** Application protocol both ends name in the QUIC handshake (dumbpipe's `ALPN`). */
export const PLAIN_ALPN = "DUMBPIPEV0";

/** First bytes of a stream: sent by whoever dialed, consumed by whoever accepted. */
const HELLO = new TextEncoder().encode("hello");

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
  /** The direct connection beside iroh's broke, or what came by it comes short. */
  LANE_LOST: 6n,
} as const;

/** What the codes mean, as it is sent with them. */
export const CLOSE_REASONS: ReadonlyMap<bigint, string> = new Map([
  [CloseCode.DONE, ""],
  [CloseCode.BUSY, "too many connections"],
  [CloseCode.NO_SERVICE, "git annex remotedaemon is not running"],
  [CloseCode.STOPPED, "stopped"],
  [CloseCode.BAD_HELLO, "against the protocol"],
  [CloseCode.NOT_AUTHENTICATED, "not authenticated in time"],
  [CloseCode.LANE_LOST, "the lane is lost"],
]);

/** The peer said something else than the hello, or ended before it. */
export class BadHello extends Error {
  override readonly name = "BadHello";
}

/** Dialer: send the hello. */
export async function sendHello(stream: Duplex): Promise<void> {
  const writer = stream.writable.getWriter();
  try {
    await writer.write(HELLO);
  } finally {
    writer.releaseLock();
  }
}

/**
 * Acceptor: consume the hello, and not a byte more.
 *
 * @throws {BadHello} if something else comes. How long to wait is up to the caller.
 */
export async function receiveHello(stream: Duplex): Promise<void> {
  const reader = stream.readable.getReader({ mode: "byob" });
  try {
    const { value } = await reader.read(new Uint8Array(HELLO.length), { min: HELLO.length });
    if (!value || value.length !== HELLO.length || value.some((byte, i) => byte !== HELLO[i])) {
      throw new BadHello("not a hello");
    }
  } finally {
    reader.releaseLock();
  }
}
