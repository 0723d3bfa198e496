/**
 * The limits of a stranger: a peer that has dialed this repository, and that git-annex has not admitted
 * yet. A stranger has little time, counts in the memory of all strangers, and may lose its permit to another peer.
 */

import type { Connection } from "../iroh/connection.ts";
import { HandshakeError } from "../protocol/dumbpipe.ts";
import type { ProtocolError } from "../protocol/mux.ts";
import type { Permit } from "./admission.ts";
import { NotAuthenticated } from "./close_reasons.ts";
import type { StrangerBytes, StrangerMemory } from "./stranger_memory.ts";

/** Timeout for the QUIC handshake and dumbpipe's hello: twice what the slowest dial was seen to take. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Timeout for `AUTH-SUCCESS`. git-annex sends AUTH at once, so only a slow link or machine needs it. */
const AUTH_TIMEOUT_MS = 30_000;

/** Limits of a stranger. Tests pass smaller ones. */
export interface StrangerLimitValues {
  readonly handshakeTimeoutMs: number;
  readonly authTimeoutMs: number;
}

/** The limits that apply unless a test passes others. */
export const STRANGER_LIMITS: StrangerLimitValues = {
  handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
  authTimeoutMs: AUTH_TIMEOUT_MS,
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
  /** Undefined if no limit applies. */
  #bytes: StrangerBytes | undefined;

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
   * Counts the bytes of the stranger, and closes `connection` if they are too many.
   *
   * @param onExceeded Called with the reason.
   */
  limitBytes(
    connection: Connection,
    memory: StrangerMemory,
    onExceeded: (reason: ProtocolError) => void,
  ): void {
    if (this.#state === "authenticated") return;
    this.#bytes = memory.count(connection, onExceeded);
  }

  /** Counts the bytes that git-annex takes from a session. @returns Dispose of it when the session has ended. */
  countOut(bytesTaken: () => number): Disposable {
    return this.#bytes?.countOut(bytesTaken) ?? { [Symbol.dispose]: () => {} };
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
    this.#bytes?.[Symbol.dispose]();
    this.#bytes = undefined;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#handshakeTimer);
    this.#bytes?.[Symbol.dispose]();
    this.takePermit()?.release();
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
