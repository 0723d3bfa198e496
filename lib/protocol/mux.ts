/**
 * The mux protocol, for what goes beyond dumbpipe's. docs/protocol.md describes it for those who write
 * another implementation.
 *
 * Either end opens streams. The first byte of each says what it is for.
 */

import type { Connection } from "../iroh/connection.ts";
import { CLOSE_REASONS, CloseCode } from "./close_codes.ts";
import type { Duplex } from "../streams/duplex.ts";

/** Application protocol (ALPN) that both ends name in the QUIC handshake. */
export const MUX_ALPN = "git-annex-p2p-iroh/1";

/** What a stream is for. */
export const StreamType = {
  /** {@linkcode PING_BYTES} follow, which the other end sends back. git-annex is not asked. */
  PING: 1,
  /** The number and the id of a session, and git-annex's bytes, in frames (session.ts). */
  SESSION: 2,
  /** The number of a session, for which the two ends agree on a lane (lane/). */
  LANE: 3,
  /** A number, and the id of a session whose connection was lost, which goes on on this one. */
  RESUME: 4,
  /** A request of a joiner, and its answer (pairing/messages.ts). */
  PAIR: 5,
} as const;

/** What the opener of a stream says that it is for. */
export type StreamHeader =
  | { readonly type: typeof StreamType.PING }
  | { readonly type: typeof StreamType.PAIR }
  /** @param session Number of the session on this connection, given by the end that opens it. */
  | { readonly type: typeof StreamType.LANE; readonly session: number }
  /** @param id Id of the session, on every connection: {@linkcode SESSION_ID_BYTES} random bytes in hex. */
  | {
    readonly type: typeof StreamType.SESSION | typeof StreamType.RESUME;
    readonly session: number;
    readonly id: string;
  };

/** The header of a stream on which a session begins, or goes on. */
export type SessionStart = Extract<StreamHeader, { id: string }>;

/** The header of a stream that belongs to a session. */
export type SessionHeader = Extract<StreamHeader, { session: number }>;

/**
 * Timeout for a packet of the peer. A heartbeat comes every 5 s. With the time for another dial, the user
 * hears within half a minute that a peer is lost (lib/connect/lane_upgrade.ts).
 */
const MUX_SILENCE_TIMEOUT_MS = 15_000;

/**
 * Maximum number of sessions that a stranger has open on a connection. `git annex get -J4` opens four, and with
 * more jobs the others wait for a round trip.
 */
export const MAX_STRANGER_SESSIONS = 4;

/** Has a connection on the mux protocol taken for lost sooner than others, whose sessions cannot be resumed. */
export function noticeLossSoon(connection: Pick<Connection, "noticeLossWithin">): void {
  const code = CloseCode.LOST;
  connection.noticeLossWithin(MUX_SILENCE_TIMEOUT_MS, code, CLOSE_REASONS.get(code)!);
}

/** Length of a session's number. */
const SESSION_NUMBER_BYTES = 4;
/** Length of a session's id, which nobody else can guess. */
const SESSION_ID_BYTES = 16;

/** Returns the id of a new session. */
export function newSessionId(): string {
  return crypto.getRandomValues(new Uint8Array(SESSION_ID_BYTES)).toHex();
}

/** Whether a text is the id of a session. */
export function isSessionId(text: string): boolean {
  return /^[0-9a-f]{32}$/.test(text);
}

/** Length of a ping. Its bytes are random, so that no answer is taken for another. */
const PING_BYTES = 8;

/** The peer breaks the protocol. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** The peer has opened a stream of a type that this program does not know. It may be of a later version. */
export class UnsupportedStream extends Error {
  override readonly name = "UnsupportedStream";

  /** @param type The first byte of the stream. */
  constructor(type: number) {
    super(`a stream of type ${type}`);
  }
}

/** Writes the header of a session's stream that this end has opened. */
export async function writeStreamHeader(
  stream: Duplex,
  header: SessionHeader,
): Promise<void> {
  const id = "id" in header ? Uint8Array.fromHex(header.id) : new Uint8Array();
  const bytes = new Uint8Array(1 + SESSION_NUMBER_BYTES + id.length);
  bytes[0] = header.type;
  new DataView(bytes.buffer).setUint32(1, header.session);
  bytes.set(id, 1 + SESSION_NUMBER_BYTES);
  const writer = stream.writable.getWriter();
  await writer.write(bytes);
  writer.releaseLock();
}

/** Reads the header of a stream that the peer has opened. @throws {UnsupportedStream}, {ProtocolError}. */
export async function readStreamHeader(stream: Duplex): Promise<StreamHeader> {
  const [type] = await readExactly(stream, 1);
  switch (type) {
    case StreamType.PING:
    case StreamType.PAIR:
      return { type };
    case StreamType.LANE:
      return { type, session: await readNumber(stream) };
    case StreamType.SESSION:
    case StreamType.RESUME: {
      const session = await readNumber(stream);
      return { type, session, id: (await readExactly(stream, SESSION_ID_BYTES)).toHex() };
    }
    default:
      throw new UnsupportedStream(type!);
  }
}

async function readNumber(stream: Duplex): Promise<number> {
  const bytes = await readExactly(stream, SESSION_NUMBER_BYTES);
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
}

/** One ping on a new stream. @throws {ProtocolError} if something else comes back. */
export async function ping(stream: Duplex): Promise<void> {
  const sent = crypto.getRandomValues(new Uint8Array(PING_BYTES));
  const writer = stream.writable.getWriter();
  await writer.write(Uint8Array.of(StreamType.PING, ...sent));
  // Not awaited, since it takes another round trip until the peer has acknowledged the end of the stream.
  writer.close().catch(() => {}); // fails if the connection is closed first
  const received = await readExactly(stream, PING_BYTES);
  await readEnd(stream);
  if (received.some((byte, i) => byte !== sent[i])) {
    throw new ProtocolError("something else than was sent came back");
  }
}

/** Answers a ping. @throws {ProtocolError} if what comes is no ping. */
export async function answerPing(stream: Duplex): Promise<void> {
  const writer = stream.writable.getWriter();
  await writer.write(await readExactly(stream, PING_BYTES));
  await Promise.all([writer.close(), readEnd(stream)]);
}

/** Reads the end of a stream. Otherwise it would count for ever among those that a peer may have open. */
export async function readEnd(stream: Duplex): Promise<void> {
  const reader = stream.readable.getReader({ mode: "byob" });
  try {
    const { done } = await reader.read(new Uint8Array(1));
    if (!done) throw new ProtocolError("a stream that goes on");
  } finally {
    reader.releaseLock();
  }
}

/** Reads as many bytes. @throws {ProtocolError} if the stream ends before, or what the stream says. */
export async function readExactly(stream: Duplex, length: number): Promise<Uint8Array> {
  const reader = stream.readable.getReader({ mode: "byob" });
  try {
    const { value } = await reader.read(new Uint8Array(length), { min: length });
    if (value?.length !== length) throw new ProtocolError("a stream that is cut short");
    return value;
  } finally {
    reader.releaseLock();
  }
}
