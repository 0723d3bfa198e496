/** Joins a session that a peer has opened with git-annex's socket. */

import { StreamError } from "../streams/duplex.ts";
import { systemReason } from "../console/failure.ts";
import type { UnixSocket } from "../platform/unix_socket.ts";
import { CLOSE_REASONS, CloseCode, type CloseReason } from "../protocol/close_codes.ts";
import { Session } from "../protocol/session.ts";
import { splice, type SpliceResult } from "../streams/splice.ts";
import { type AnnexSocketOptions, connectToAnnex } from "./annex_socket.ts";
import { AuthWatch } from "./auth_watch.ts";
import { closeReasonFor } from "./close_reasons.ts";
import type { PeerSession } from "./peer_session.ts";
import type { TrafficMeter } from "./traffic.ts";

const BROKEN_OFF: CloseReason = [CloseCode.BROKEN_OFF, CLOSE_REASONS.get(CloseCode.BROKEN_OFF)!];

/** What a session needs. */
export interface AnnexSessionOptions extends AnnexSocketOptions {
  readonly meter: TrafficMeter;
  /** Called with a line for the log about a peer that git-annex has admitted. */
  readonly report: (message: string) => void;
  /** Called with a line for the log about another peer. */
  readonly reportStranger: (message: string) => void;
  /** Called once git-annex has admitted the peer. */
  readonly onAuthenticated: () => void;
}

/** A session that is connected to git-annex's socket. Dispose of it when it is over. */
export class AnnexSession implements Disposable {
  #session: PeerSession;
  #socket: UnixSocket;
  #options: AnnexSessionOptions;
  #startedAt: number;
  /** Undefined for a stranger, which is not counted. */
  #metering: Disposable | undefined;

  private constructor(
    session: PeerSession,
    socket: UnixSocket,
    options: AnnexSessionOptions,
    startedAt: number,
  ) {
    this.#session = session;
    this.#socket = socket;
    this.#options = options;
    this.#startedAt = startedAt;
  }

  /**
   * Connects a session to git-annex's socket.
   *
   * @throws {Busy}, {NoService}, or the signal's reason.
   */
  static async connect(
    session: PeerSession,
    options: AnnexSessionOptions,
    signal: AbortSignal,
  ): Promise<AnnexSession> {
    const startedAt = performance.now();
    // The socket is read in a later turn of the event loop, when there is a session.
    const watch = new AuthWatch(() => annexSession.#onAuthenticated());
    const socket = await connectToAnnex(options, (chunk) => watch.see(chunk), signal);
    const annexSession = new AnnexSession(session, socket, options, startedAt);
    return annexSession;
  }

  #onAuthenticated(): void {
    const session = this.#session, socket = this.#socket, { meter, report } = this.#options;
    this.#metering = meter.begin({
      key: session.connection.publicKey.toHex(),
      isIncoming: true,
      byteCounts: () => ({ sent: socket.bytesTaken, received: socket.bytesWritten }),
      connection: () => session.connection,
      lane: () => session.lane(),
    });
    report(`${session.peer} connected`);
    this.#options.onAuthenticated();
  }

  /** Bytes that git-annex has taken so far. */
  get bytesTaken(): number {
    return this.#socket.bytesWritten;
  }

  /**
   * Bytes moved so far. Those of iroh's connection count, too: all that git-annex has said may have been
   * read, and still be on its way to the peer.
   */
  get bytesMoved(): number {
    const { bytesTaken, bytesWritten } = this.#socket;
    return this.#session.connection.packetBytes + bytesTaken + bytesWritten;
  }

  /** True if a lane carries bytes that the peer has not confirmed. */
  get isInFlight(): boolean {
    const { stream } = this.#session;
    return stream instanceof Session && stream.isInFlight;
  }

  /** Copies both ways until both directions have ended. @throws The signal's reason. */
  async serve(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { stream, peer } = this.#session, socket = this.#socket;
    // It runs before `splice` gives up the stream, so that the peer learns the reason.
    const abort = () => this.#session.abort(closeReasonFor(signal.reason));
    signal.addEventListener("abort", abort);
    let result: SpliceResult;
    try {
      result = await splice(stream, socket, signal);
    } finally {
      signal.removeEventListener("abort", abort); // it would keep the session in memory
    }
    signal.throwIfAborted();
    if (isLost(result)) this.#session.abort(BROKEN_OFF);
    const seconds = ((performance.now() - this.#startedAt) / 1000).toFixed(1);
    const bytes = `${socket.bytesWritten} bytes in, ${socket.bytesRead} out`;
    const after = `after ${seconds} s, ${bytes}`;
    if (this.#metering) this.#options.report(`${peer} ${outcomeText(result)} ${after}`);
    else this.#options.reportStranger(`${peer} left before git-annex let it in, ${after}`);
  }

  [Symbol.dispose](): void {
    this.#metering?.[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
  }
}

/** Returns true if bytes are missing. On dumbpipe's protocol the connection is gone in that case. */
function isLost({ aToB, bToA }: SpliceResult): boolean {
  return [aToB, bToA].some(({ error }) => error instanceof StreamError && error.kind === "lost");
}

/** Returns how a session ended, for the log, which names a peer that has left in mid-stream. */
function outcomeText({ aToB, bToA }: SpliceResult): string {
  const loss = [aToB.error, bToA.error].find((error) =>
    error !== undefined && !(error instanceof StreamError && error.kind === "closed")
  );
  return loss === undefined ? "was served" : `was lost (${systemReason(loss)})`;
}
