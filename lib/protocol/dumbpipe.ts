/**
 * The protocol of dumbpipe, so that either end may be dumbpipe.
 *
 * The dialer opens one bidirectional stream and sends {@linkcode HANDSHAKE}. After that the stream carries
 * git-annex's bytes both ways. Each direction ends with the end of the stream.
 * https://github.com/n0-computer/dumbpipe/blob/main/src/lib.rs
 */

import { type Duplex, StreamError } from "../streams/duplex.ts";

/** Application protocol (ALPN) that both ends name in the QUIC handshake (dumbpipe's `ALPN`). */
export const DUMBPIPE_ALPN = "DUMBPIPEV0";

/** First bytes of a stream: sent by the dialer, consumed by the acceptor. */
const HANDSHAKE = new TextEncoder().encode("hello");

/** The dialer sent something other than the handshake, or ended before it. */
export class HandshakeError extends Error {
  override readonly name = "HandshakeError";
}

/** Sends the handshake, as a dialer. */
export async function sendHandshake(stream: Duplex): Promise<void> {
  const writer = stream.writable.getWriter();
  try {
    await writer.write(HANDSHAKE);
  } finally {
    writer.releaseLock();
  }
}

/**
 * Consumes the handshake, and not a byte beyond it, as an acceptor. The caller limits the time.
 *
 * @throws {HandshakeError} if something else comes, or the dialer gives up the stream.
 * @throws {StreamError} if the connection has ended.
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
  } catch (error) {
    const isReset = error instanceof StreamError &&
      (error.kind === "reset" || error.kind === "refused");
    throw isReset ? new HandshakeError(error.message, { cause: error }) : error;
  } finally {
    reader.releaseLock();
  }
}
