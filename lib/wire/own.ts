/**
 * Our own wire, for what goes beyond dumbpipe's. docs/protocol.md describes it for those who write
 * another implementation.
 *
 * The dialer opens streams, any number on one connection. The first byte of a stream says what it is
 * for.
 */

import type { Duplex } from "../duplex.ts";

/** Application protocol both ends name in the QUIC handshake. */
export const OWN_ALPN = "git-annex-p2p-iroh/1";

/** What a stream is for. */
const StreamKind = {
  /** {@linkcode PING_BYTES} follow, which the acceptor sends back. git-annex is not asked. */
  PING: 1,
} as const;

/** Any bytes; random ones, so that no answer is taken for another. */
const PING_BYTES = 8;

/** The peer does not keep to the protocol. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** Opener: one ping on a new stream. @throws {ProtocolError} if something else comes back. */
export async function ping(stream: Duplex): Promise<void> {
  const sent = crypto.getRandomValues(new Uint8Array(PING_BYTES));
  const writer = stream.writable.getWriter();
  await writer.write(Uint8Array.of(StreamKind.PING, ...sent));
  // Not waited for: that the peer has the end of the stream is known a round trip later.
  writer.close().catch(() => {}); // whoever closes the connection ends it, too
  const received = await readExactly(stream, PING_BYTES);
  await readEnd(stream);
  if (received.some((byte, i) => byte !== sent[i])) {
    throw new ProtocolError("something else than was sent came back");
  }
}

/** Acceptor: does what a stream is for. @throws {ProtocolError} if that is not known. */
export async function serveStream(stream: Duplex): Promise<void> {
  const [kind] = await readExactly(stream, 1);
  if (kind !== StreamKind.PING) {
    await stream.writable.abort();
    throw new ProtocolError(`a stream of kind ${kind}`);
  }
  const writer = stream.writable.getWriter();
  await writer.write(await readExactly(stream, PING_BYTES));
  await Promise.all([writer.close(), readEnd(stream)]);
}

/** A stream whose end is never read counts for ever among those that a peer may open at once. */
async function readEnd(stream: Duplex): Promise<void> {
  const reader = stream.readable.getReader({ mode: "byob" });
  try {
    const { done } = await reader.read(new Uint8Array(1));
    if (!done) throw new ProtocolError("a stream that goes on");
  } finally {
    reader.releaseLock();
  }
}

async function readExactly(stream: Duplex, length: number): Promise<Uint8Array> {
  const reader = stream.readable.getReader({ mode: "byob" });
  try {
    const { value } = await reader.read(new Uint8Array(length), { min: length });
    if (value?.length !== length) throw new ProtocolError("a stream that is cut short");
    return value;
  } finally {
    reader.releaseLock();
  }
}
