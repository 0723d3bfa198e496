/** A session that the peer has opened. It may go on by a lane, and on another of iroh's connections. */

import { LinkedSignal } from "../async/abort.ts";
import { Notifier } from "../async/notifier.ts";
import { debug } from "../console/stderr.ts";
import type { Connection } from "../iroh/connection.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { isLoss } from "./carriers.ts";
import { CLOSE_REASONS, CloseCode, type CloseReason } from "./close_codes.ts";
import { LaneAnswerer } from "./lane_answerer.ts";
import type { ResumableSessions } from "./resumable_sessions.ts";
import { Session } from "./session.ts";

/** Timeout for the opener to resume a session after its connection was lost. */
const KEEP_TIMEOUT_MS = 30_000;

const AGAINST_PROTOCOL: CloseReason = [
  CloseCode.BAD_HELLO,
  CLOSE_REASONS.get(CloseCode.BAD_HELLO)!,
];

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
  #lanes: LaneAnswerer;
  #ended = new AbortController();
  #forgotten = Promise.withResolvers<void>();
  #moved = new Notifier();
  /** Runs while the opener may come back on another connection. */
  #resumeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(owner: SessionOwner, stream: Duplex, id: string, options: InboundSessionOptions) {
    this.id = id;
    this.session = new Session(stream, owner.connection.closedError, {
      onHomeLost: (error) => this.#onHomeLost(error),
    });
    this.#owner = owner;
    this.#options = options;
    this.#lanes = new LaneAnswerer(this.session, options.bind);
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
    return this.#moved.next();
  }

  /** Resolves when it can no longer be resumed, which may be a while after it is over. */
  get forgotten(): Promise<void> {
    return this.#forgotten.promise;
  }

  /** Whether its connection is lost, or may be, so that the opener may soon resume it. */
  get isAwaited(): boolean {
    return this.#resumeTimer !== undefined || this.connection.isSilent;
  }

  /** Waits for the opener to come back, unless it is a stranger. */
  #onHomeLost(error: StreamError): void {
    if (!this.#options.resumable?.has(this)) return this.session.fail(error);
    debug(() => `a session waits to be resumed: ${error.message}`);
    this.#waitForOpener(() => this.session.fail(error));
  }

  /** @param giveUp Called if the opener does not come back in time. */
  #waitForOpener(giveUp: () => void): void {
    const { resumeTimeoutMs = KEEP_TIMEOUT_MS } = this.#options;
    this.#endWait(); // the connection may be lost while the session is detached
    this.#resumeTimer = setTimeout(giveUp, resumeTimeoutMs);
    Deno.unrefTimer(this.#resumeTimer);
  }

  /** Goes on on a stream of another connection. */
  resume(owner: SessionOwner, stream: Duplex): void {
    this.#endWait();
    this.#owner = owner;
    this.session.attachHome(stream, owner.connection.closedError);
    this.#moved.notify();
  }

  #endWait(): void {
    clearTimeout(this.#resumeTimer);
    this.#resumeTimer = undefined;
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
    this.#options.resumable?.add(this);
    this.session.markAuthenticated();
    this.#lanes.markAuthenticated();
    this.#owner.markAuthenticated();
  }

  /** Answers the offer of a lane. If the peer sends no valid offer, the session ends. Never rejects. */
  async answerLane(stream: Duplex, signal: AbortSignal): Promise<void> {
    using until = new LinkedSignal([signal, this.#ended.signal]);
    const isValid = await this.#lanes.answer(stream, this.connection, until.signal);
    if (!isValid) this.abort(AGAINST_PROTOCOL);
  }

  [Symbol.dispose](): void {
    this.#endWait();
    this.#ended.abort(new StreamError("closed", "the session is over"));
    this.#sayFarewell();
  }

  /**
   * Detaches the session. If the connection is lost before the peer has what was sent last, the opener may resume
   * the session once more, to get that. Never rejects.
   */
  async #sayFarewell(): Promise<void> {
    await this.session.detach();
    for (let isAwaited = true; isAwaited;) {
      const moved = this.moved.then(() => true);
      const isLost = await this.session.farewell.then(() => false, isLoss);
      if (!isLost || !this.#options.resumable?.has(this)) break;
      const late = new Promise<boolean>((resolve) => this.#waitForOpener(() => resolve(false)));
      isAwaited = await Promise.race([moved, late]);
    }
    this.#endWait();
    this.#forgotten.resolve();
  }
}
