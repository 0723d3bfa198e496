/** A session that the peer has opened. It may go on by a lane, and on another of iroh's connections. */

import { abortable } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import type { Connection } from "../iroh/connection.ts";
import type { Lane } from "../lane/lane.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { CloseReason } from "./close_codes.ts";
import { ProtocolError } from "./mux.ts";
import type { ResumableSessions } from "./resumable_sessions.ts";
import { Session } from "./session.ts";

/** Timeout for git-annex to let a peer in that offers a lane. Its answer may be on its way. */
const AUTH_TIMEOUT_MS = 5_000;
/** Timeout for the opener to resume a session after its connection was lost. */
const KEEP_TIMEOUT_MS = 30_000;

/** How sessions of the peer are served. */
export interface InboundSessionOptions {
  /** The setting `bind`. */
  readonly bind: string | undefined;
  /** Sessions that may be resumed on another connection. By default there are none. */
  readonly resumable?: ResumableSessions<InboundSession>;
  /** Timeout for a session to be resumed. By default {@linkcode KEEP_TIMEOUT_MS}. */
  readonly resumeTimeoutMs?: number;
}

/** The connection that a session is on. */
export interface SessionOwner {
  readonly connection: Connection;
  /** Notes that the peer is no stranger. */
  markAuthenticated(): void;
  /** Notes why a session of the peer's was turned away. */
  refused(reason: CloseReason): void;
}

/** A session that the peer has opened, and the lane on which it may go on. */
export class InboundSession implements Disposable {
  readonly session: Session;
  readonly id: string;
  /** Resolves when it is over. */
  readonly over: Promise<void>;
  #owner: SessionOwner;
  #options: InboundSessionOptions;
  /** Gives up the lane that is being made. */
  #giveUpMaking = new AbortController();
  #authenticated = Promise.withResolvers<void>();
  #isAuthenticated = false;
  #ended = new AbortController();
  #moved = Promise.withResolvers<void>();
  #resumeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(owner: SessionOwner, stream: Duplex, id: string, options: InboundSessionOptions) {
    this.id = id;
    this.session = new Session(stream, owner.connection.closedError, {
      onHomeLost: (error) => this.#onHomeLost(error),
    });
    this.#owner = owner;
    this.#options = options;
    this.over = new Promise((resolve) => {
      this.#ended.signal.addEventListener("abort", () => resolve());
    });
  }

  /** The connection that it is on. */
  get connection(): Connection {
    return this.#owner.connection;
  }

  /** Resolves when it goes on on another connection. */
  get moved(): Promise<void> {
    return this.#moved.promise;
  }

  /** Waits for the opener to come back, unless it is a stranger. */
  #onHomeLost(error: StreamError): void {
    if (!this.#isAuthenticated || !this.#options.resumable) return this.session.fail(error);
    const { resumeTimeoutMs = KEEP_TIMEOUT_MS } = this.#options;
    debug(() => `a session waits to be resumed: ${error.message}`);
    this.#resumeTimer = setTimeout(() => this.session.fail(error), resumeTimeoutMs);
  }

  /** Goes on on a stream of another connection. */
  resume(owner: SessionOwner, stream: Duplex): void {
    clearTimeout(this.#resumeTimer);
    const moved = this.#moved;
    this.#moved = Promise.withResolvers();
    this.#owner = owner;
    this.session.attachHome(stream, owner.connection.closedError);
    moved.resolve();
  }

  /** Kind and address of the lane in use; undefined if there is none. */
  get lane(): string | undefined {
    const { lane } = this.session;
    return lane && `${lane.kind} ${lane.remote}`;
  }

  /** Aborted when the session is over, or its connection is given up. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** Notes that the connection is given up. @param reason Why. */
  end(reason: unknown): void {
    this.#ended.abort(reason);
  }

  /** Ends the session in the middle, and tells the peer why. */
  abort(closeReason: CloseReason): void {
    const [code, reason] = closeReason;
    this.#owner.refused(closeReason);
    this.session.abort(new StreamError("refused", reason, { code }));
  }

  /** Notes that git-annex has let the peer in. */
  markAuthenticated(): void {
    this.#isAuthenticated = true;
    this.#options.resumable?.add(this);
    this.session.markAuthenticated();
    this.#authenticated.resolve();
    this.#owner.markAuthenticated();
  }

  /**
   * Answers the offer of a lane, and uses the lane if there is one. A lane that is still being made is given
   * up: the peer has lost it already, or it would not begin anew.
   *
   * @throws {ProtocolError} if the peer sends no valid offer.
   */
  async answerLane(stream: Duplex, signal: AbortSignal): Promise<void> {
    this.#giveUpMaking.abort(new StreamError("closed", "the peer begins anew"));
    const giveUp = this.#giveUpMaking = new AbortController();
    const until = AbortSignal.any([signal, this.#ended.signal, giveUp.signal]);
    try {
      const making = this.#makeLane(stream, until);
      this.session.restUntil(making.then(() => {}, () => {})); // the error is handled below
      const lane = await making;
      if (giveUp.signal.aborted) lane?.close();
      else if (lane) this.session.attachLane(lane);
    } catch (error) {
      debug(() => `no lane: ${error}`); // the session stays where it is
      if (error instanceof Error && error.name === "InvalidOffer") {
        throw new ProtocolError(error.message);
      }
    }
  }

  async #makeLane(stream: Duplex, signal: AbortSignal): Promise<Lane | undefined> {
    // A stranger could make this host dial any address. git-annex's answer may be on its way.
    const limit = AbortSignal.any([signal, AbortSignal.timeout(AUTH_TIMEOUT_MS)]);
    const isWanted = await abortable(this.#authenticated.promise, limit)
      .then(() => true, () => false);
    const [{ answerLane }, { laneAddresses }] = await Promise.all([
      import("../lane/negotiation.ts"),
      import("../lane/local_addresses.ts"),
    ]);
    const addresses = laneAddresses(this.connection, this.#options.bind);
    return await answerLane(stream, isWanted, { addresses, signal });
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#resumeTimer);
    this.#ended.abort(new StreamError("closed", "the session is over"));
    this.session.detach();
  }
}
