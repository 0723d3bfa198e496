/**
 * The limits of a stranger: a peer that has dialed this repository, and that git-annex has not admitted
 * yet. A stranger has little time, may send few bytes, and may lose its permit to another peer.
 */

import type { Connection } from "../iroh/connection.ts";
import { HandshakeError } from "../protocol/dumbpipe.ts";
import { ProtocolError } from "../protocol/mux.ts";
import type { Permit } from "./admission.ts";
import { closeReasonFor, NotAuthenticated } from "./close_reasons.ts";

/** Timeout for the QUIC handshake and dumbpipe's hello: twice what the slowest dial was seen to take. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Timeout for `AUTH-SUCCESS`. git-annex sends AUTH at once, so only a slow link or machine needs it. */
const AUTH_TIMEOUT_MS = 30_000;
/**
 * Maximum bytes of a stranger that git-annex has not taken. A peer sends its token and waits, in a few packets. A
 * hundred strangers then occupy 50 MB.
 */
const MAX_WAITING_BYTES = 500_000;
/** Interval between looks at the bytes of a stranger. Each look costs one call of iroh. */
const LOOK_INTERVAL_MS = 100;

/** Limits of a stranger. Tests pass smaller ones. */
export interface StrangerLimitValues {
  readonly handshakeTimeoutMs: number;
  readonly authTimeoutMs: number;
  readonly maxWaitingBytes: number;
  readonly lookIntervalMs: number;
}

/** The limits that apply unless a test passes others. */
export const STRANGER_LIMITS: StrangerLimitValues = {
  handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
  authTimeoutMs: AUTH_TIMEOUT_MS,
  maxWaitingBytes: MAX_WAITING_BYTES,
  lookIntervalMs: LOOK_INTERVAL_MS,
};

/**
 * The limits of one connection. It owns the connection's permit until the first session takes it.
 * Dispose of it when the connection has ended.
 */
export class StrangerLimits implements Disposable {
  #values: StrangerLimitValues;
  #onAuthenticated: () => void;
  #state: "handshake" | "stranger" | "authenticated";
  /** Undefined if the first session has taken it. */
  #permit: Permit | undefined;
  #exceeded = new AbortController();
  #handshakeTimer: ReturnType<typeof setTimeout> | undefined;
  #lookTimer: ReturnType<typeof setInterval> | undefined;
  /** Returns how many bytes git-annex has taken, one function for each open session. */
  #taken = new Set<() => number>();
  /** Bytes that git-annex has taken from sessions that have ended. */
  #takenBefore = 0;

  /**
   * @param permit Undefined if this repository has dialed the connection. The peer is no stranger then,
   * and no limit applies.
   * @param onAuthenticated Called when the limits are lifted.
   */
  constructor(
    permit: Permit | undefined,
    values: Partial<StrangerLimitValues> = {},
    onAuthenticated = () => {},
  ) {
    this.#onAuthenticated = onAuthenticated;
    this.#values = { ...STRANGER_LIMITS, ...values };
    this.#permit = permit;
    this.#state = permit ? "handshake" : "authenticated";
    if (!permit) return;
    if (permit.evicted.aborted) this.#evict();
    permit.evicted.addEventListener("abort", this.#evict);
    const expired = () => this.#exceeded.abort(new HandshakeError("no hello in time"));
    const timer = setTimeout(expired, this.#values.handshakeTimeoutMs);
    Deno.unrefTimer(timer);
    this.#handshakeTimer = timer;
  }

  /**
   * Aborted if the handshake takes too long, or if the peer loses its permit before its first session.
   */
  get exceeded(): AbortSignal {
    return this.#exceeded.signal;
  }

  /** Whether git-annex has admitted the peer, or opens a session to it. */
  get isAuthenticated(): boolean {
    return this.#state === "authenticated";
  }

  /** Ends the timeout of the handshake. */
  handshakeDone(): void {
    if (this.#state === "handshake") this.#state = "stranger";
    clearTimeout(this.#handshakeTimer);
  }

  /**
   * Closes `connection` if the stranger sends more than git-annex takes. iroh buffers what is not read:
   * 1.25 MB for each of 200 streams.
   *
   * @param onExceeded Called with the reason.
   */
  limitBytes(connection: Connection, onExceeded: (reason: ProtocolError) => void): void {
    if (this.#state === "authenticated") return;
    this.#lookTimer = setInterval(() => {
      const taken = this.#taken.values().reduce((sum, bytes) => sum + bytes(), this.#takenBefore);
      if (connection.packetBytesReceived - taken <= this.#values.maxWaitingBytes) return;
      const reason = new ProtocolError("it sent too much before git-annex let it in");
      connection.close(...closeReasonFor(reason));
      this.#stopLooking();
      onExceeded(reason);
    }, this.#values.lookIntervalMs);
    connection.closed.then(() => this.#stopLooking());
  }

  /**
   * Takes what git-annex has taken from a session out of the count: iroh no longer buffers it.
   *
   * @returns Dispose of it when the session has ended. A stranger may have thousands, one after another.
   */
  countOut(bytesTaken: () => number): Disposable {
    if (this.#state !== "authenticated") this.#taken.add(bytesTaken);
    return {
      [Symbol.dispose]: () => {
        if (this.#taken.delete(bytesTaken)) this.#takenBefore += bytesTaken();
      },
    };
  }

  /**
   * Hands the connection's permit to its first session.
   *
   * @returns Undefined for each later session, and if this repository has dialed the connection.
   */
  takePermit(): Permit | undefined {
    const permit = this.#permit;
    permit?.evicted.removeEventListener("abort", this.#evict);
    this.#permit = undefined;
    return permit;
  }

  /** Begins the limits of a session of this connection. @param permit The session's, from now on. */
  beginSession(permit: Permit): SessionLimits {
    return new SessionLimits(this, permit, this.#values.authTimeoutMs);
  }

  /**
   * Lifts all limits of the connection: git-annex has admitted the peer, or opens a session to it. A permit that
   * no session has taken is released, since a connection that is kept could not give it up if it were evicted.
   */
  markAuthenticated(): void {
    this.handshakeDone();
    this.#state = "authenticated";
    this.#onAuthenticated();
    this.takePermit()?.release();
    this.#stopLooking();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#handshakeTimer);
    this.#stopLooking();
    this.takePermit()?.release();
  }

  #stopLooking(): void {
    clearInterval(this.#lookTimer);
    this.#taken.clear();
  }

  #evict = () => this.#exceeded.abort(this.#permit?.evicted.reason);
}

/**
 * The limits of one session until git-annex has admitted the peer. It owns the session's permit. Dispose
 * of it when the session has ended.
 */
export class SessionLimits implements Disposable {
  #connection: StrangerLimits;
  #permit: Permit;
  #expired = new AbortController();
  #timer: ReturnType<typeof setTimeout>;
  /** Whether git-annex has admitted the peer in this session. */
  isAuthenticated = false;
  /** Aborted if git-annex does not admit the peer in time, or if the peer loses its permit. */
  readonly exceeded: AbortSignal;

  constructor(connection: StrangerLimits, permit: Permit, authTimeoutMs: number) {
    this.#connection = connection;
    this.#permit = permit;
    const expired = () => this.#expired.abort(new NotAuthenticated(authTimeoutMs));
    this.#timer = setTimeout(expired, authTimeoutMs);
    Deno.unrefTimer(this.#timer);
    this.exceeded = AbortSignal.any([permit.evicted, this.#expired.signal]);
  }

  /** Counts the bytes that git-annex takes from the session. @returns Dispose of it when that has ended. */
  countOut(bytesTaken: () => number): Disposable {
    return this.#connection.countOut(bytesTaken);
  }

  /** Lifts the limits of the session and of its connection: git-annex has admitted the peer. */
  markAuthenticated(): void {
    clearTimeout(this.#timer);
    this.isAuthenticated = true;
    this.#permit.authenticated();
    this.#connection.markAuthenticated();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#permit.release();
  }
}
