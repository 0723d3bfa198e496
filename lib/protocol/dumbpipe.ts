/**
 * The protocol of dumbpipe, so that either end may be dumbpipe.
 *
 * The dialer opens one bidirectional stream and sends {@linkcode HANDSHAKE}; from then on the stream
 * carries the user's bytes both ways, and each direction ends with the end of the stream.
 * https://github.com/n0-computer/dumbpipe/blob/main/src/lib.rs
 */

import type { Duplex } from "../streams/duplex.ts";

/** Application protocol both ends name in the QUIC handshake (dumbpipe's `ALPN`). */
export const DUMBPIPE_ALPN = "DUMBPIPEV0";

/** First bytes of a stream: sent by whoever dialed, consumed by whoever accepted. */
const HANDSHAKE = new TextEncoder().encode("hello");

/** The peer said something else than the hello, or ended before it. */
export class HandshakeError extends Error {
  override readonly name = "HandshakeError";
}

/** Dialer: send the hello. */
export async function sendHandshake(stream: Duplex): Promise<void> {
  const writer = stream.writable.getWriter();
  try {
    await writer.write(HANDSHAKE);
  } finally {
    writer.releaseLock();
  }
}

/**
 * Acceptor: consume the hello, and not a byte more.
 *
 * @throws {HandshakeError} if something else comes. How long to wait is up to the caller.
 */
export async function receiveHandshake(stream: Duplex): Promise<void> {
  const reader = stream.readable.getReader({ mode: "byob" });
  try {
    const { value } = await reader.read(new Uint8Array(HANDSHAKE.length), {
      min: HANDSHAKE.length,
    });
    if (
      !value || value.length !== HANDSHAKE.length || value.some((byte, i) => byte !== HANDSHAKE[i])
    ) {
      throw new HandshakeError("not a hello");
    }
  } finally {
    reader.releaseLock();
  }
}
