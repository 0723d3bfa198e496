/**
 * Our own wire, for what goes beyond dumbpipe's. docs/protocol.md describes it for those who write
 * another implementation.
 *
 * The dialer opens streams. The first byte of each says what it is for.
 */

import type { Duplex } from "../duplex.ts";

/** Application protocol both ends name in the QUIC handshake. */
export const OWN_ALPN = "git-annex-p2p-iroh/1";

/** What a stream is for. */
export const StreamKind = {
  /** {@linkcode PING_BYTES} follow, which the acceptor sends back. git-annex is not asked. */
  PING: 1,
  /** git-annex's bytes, in frames (session.ts). */
  SESSION: 2,
  /** The two ends agree on a lane for the session (lane/). */
  LANE: 3,
} as const;
export type StreamKind = typeof StreamKind[keyof typeof StreamKind];

/** Any bytes; random ones, so that no answer is taken for another. */
const PING_BYTES = 8;

/** The peer does not keep to the protocol. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** Dialer: says what a stream is for that it has opened. */
export async function begin(stream: Duplex, kind: StreamKind): Promise<void> {
  const writer = stream.writable.getWriter();
  await writer.write(Uint8Array.of(kind));
  writer.releaseLock();
}

/** Acceptor: learns what a stream is for. @throws {ProtocolError} if that is not known. */
export async function receiveKind(stream: Duplex): Promise<StreamKind> {
  const [kind] = await readExactly(stream, 1);
  if (Object.values(StreamKind).includes(kind as StreamKind)) return kind as StreamKind;
  await stream.writable.abort();
  throw new ProtocolError(`a stream of kind ${kind}`);
}

/** Dialer: one ping on a new stream. @throws {ProtocolError} if something else comes back. */
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

/** Acceptor: answers a ping. @throws {ProtocolError} if it is none. */
export async function answerPing(stream: Duplex): Promise<void> {
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
