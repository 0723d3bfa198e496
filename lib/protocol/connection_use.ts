/** Whether one of iroh's connections is in use, and when it is no longer needed. */

import { CloseCode, type CloseReason } from "./close_codes.ts";

/** Timeout for a stranger's first stream. */
const STRANGER_TIMEOUT_MS = 10_000;
/** Timeout after which the dialer closes a connection without a session. */
const IDLE_TIMEOUT_MS = 60_000;
/** The acceptor's timeout for that. It is longer, so that the dialer, which may need the connection, decides. */
const ACCEPTED_IDLE_TIMEOUT_MS = 90_000;

const DONE: CloseReason = [CloseCode.DONE, ""];
export const NO_HEADER: CloseReason = [CloseCode.BAD_HELLO, "no hello"];

/** Counts the sessions and requests of a connection, and ends the connection when it is no longer needed. */
export class ConnectionUse implements Disposable {
  /** When the last session ended, by the clock of `performance`; undefined while there is one. */
  idleSince: number | undefined = performance.now();
  isAuthenticated: boolean;
  #idleTimeoutMs: number;
  #sessions = 0;
  /** The reason with which the peer's last session was turned away. */
  #refusedWith: CloseReason | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #over = new AbortController();

  /** @param isDialed Whether this end dialed it. A peer that was dialed is no stranger. */
  constructor(isDialed: boolean, idleTimeoutMs?: number) {
    this.isAuthenticated = isDialed;
    this.#idleTimeoutMs = idleTimeoutMs ?? (isDialed ? IDLE_TIMEOUT_MS : ACCEPTED_IDLE_TIMEOUT_MS);
  }

  /** Aborted when the connection is to be closed. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Whether there is more than one session. */
  get isShared(): boolean {
    return this.#sessions > 1;
  }

  /** Notes why a session of the peer's was turned away. */
  refused(reason: CloseReason): void {
    this.#refusedWith = reason;
  }

  sessionBegan(): void {
    this.#sessions++;
    this.idleSince = undefined;
    clearTimeout(this.#timer);
  }

  sessionEnded(): void {
    this.#ended();
    // A connection is not kept for a stranger.
    if (this.isAuthenticated) this.restartTimer();
    else if (this.#sessions === 0) this.end(new IdleTimeout(this.#refusedWith ?? DONE));
  }

  /** Notes that a request begins, during which the connection is in use. */
  requestBegan(): void {
    this.sessionBegan();
  }

  /** Notes that a request is over. A stranger may make another one. */
  requestEnded(): void {
    this.#ended();
    this.restartTimer();
  }

  #ended(): void {
    this.#sessions--;
    if (this.#sessions === 0) this.idleSince = performance.now();
  }

  /** Begins the time for the next session, if there is none now. */
  restartTimer(): void {
    if (this.#sessions > 0) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => this.end(new IdleTimeout(this.isAuthenticated ? DONE : NO_HEADER)),
      this.isAuthenticated ? this.#idleTimeoutMs : STRANGER_TIMEOUT_MS,
    );
    Deno.unrefTimer(this.#timer);
  }

  /** Has the connection closed. @param reason Why. By default it is no longer needed. */
  end(reason: unknown = new IdleTimeout(DONE)): void {
    this.#over.abort(reason);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** A connection has not been used for a while, or is no longer needed. */
export class IdleTimeout extends Error {
  override readonly name = "IdleTimeout";

  /** @param closeReason How to close it. */
  constructor(readonly closeReason: CloseReason) {
    super("it is idle");
  }
}
