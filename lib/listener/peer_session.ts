/** A session that a peer has opened, in one form for both protocols. */

import { abortable, LinkedSignal } from "../async/abort.ts";
import type { Connection } from "../iroh/connection.ts";
import { CloseCode, type CloseReason } from "../protocol/close_codes.ts";
import type { InboundSession } from "../protocol/inbound_session.ts";
import type { Duplex } from "../streams/duplex.ts";

/** Timeout for a peer on dumbpipe's protocol to close: several round trips of a slow network. */
const PEER_CLOSE_TIMEOUT_MS = 1_000;

/** A session that a peer has opened, on either protocol. */
export interface PeerSession {
  readonly connection: Connection;
  readonly stream: Duplex;
  /** Name of the peer in the log. */
  readonly peer: string;
  /** Aborted if the connection is given up. */
  readonly ended: AbortSignal;
  /** Returns kind and address of the lane that carries the session; undefined if none does. */
  lane(): string | undefined;
  /** Called once git-annex has admitted the peer. */
  markAuthenticated(): void;
  /** Ends the session, and tells the peer why. */
  abort(closeReason: CloseReason): void;
  /** Ends the session after both directions have ended. */
  finish(signal: AbortSignal): Promise<void>;
}

/** Returns a session of a connection on the mux protocol. The connection outlives it. */
export function muxSession(inbound: InboundSession, peer: string): PeerSession {
  return {
    get connection() {
      return inbound.connection; // another one, once it is resumed
    },
    stream: inbound.session,
    peer,
    ended: inbound.ended,
    lane: () => inbound.lane,
    markAuthenticated: () => inbound.markAuthenticated(),
    abort: (closeReason) => inbound.abort(closeReason),
    finish: () => Promise.resolve(),
  };
}

/** Returns the session of a connection on dumbpipe's protocol. The connection ends with it. */
export function dumbpipeSession(
  connection: Connection,
  stream: Duplex,
  peer: string,
  { peerCloseTimeoutMs = PEER_CLOSE_TIMEOUT_MS }: { readonly peerCloseTimeoutMs?: number } = {},
): PeerSession {
  return {
    connection,
    stream,
    peer,
    ended: new AbortController().signal, // its stream fails if the connection ends
    lane: () => undefined,
    markAuthenticated: () => {},
    abort: ([code, reason]) => connection.close(code, reason),
    finish: async (signal) => {
      // dumbpipe closes once its end is acknowledged. It reports a loss if a close arrives with that.
      using until = new LinkedSignal([signal], { milliseconds: peerCloseTimeoutMs });
      await abortable(connection.closed, until.signal).catch(() => {}); // this end closes instead
      connection.close(CloseCode.DONE, "");
    },
  };
}
