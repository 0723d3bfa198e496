/** An outbound session through the running listener of this repository, on a connection that it keeps. */

import { abortable, delayWhileRunning, LinkedSignal } from "../async/abort.ts";
import { StreamError } from "../streams/duplex.ts";
import { requestForget, requestSession } from "../control/client.ts";
import type { ControlSocket } from "../control/locator.ts";
import { ConfigChanged, ControlUnavailable } from "../control/unavailable.ts";
import { Away } from "../dial/unreachable.ts";
import { debug } from "../console/stderr.ts";
import { newSessionId } from "../protocol/mux.ts";
import type { Session } from "../protocol/session.ts";
import { LaneUpgrade } from "./lane_upgrade.ts";
import { abortCode, type OutboundSession, type Wanted } from "./outbound.ts";

/** Timeout for the listener to take the last messages. git-annex waits for this process meanwhile. */
const FLUSH_TIMEOUT_MS = 500;
/** Interval between reports of progress. A listener that stops waits for sessions that progress. */
const REPORT_INTERVAL_MS = 250;

/**
 * Time that the listener may take to accept a request, before this process begins to connect by itself. Only
 * time counts in which this process ran.
 */
const SLOW_MS = 200;

/** A dial that has failed sooner was not tried for the whole time, since the peer was believed away. */
const SHORT_DIAL_MS = 5_000;

/** A request for a session. */
export interface ListenerRequest extends Wanted {
  /** The id of the git config that the settings come from, if that is the one in the locator. */
  readonly config: string | undefined;
  /** Called if the listener is slow to accept the request. */
  readonly onSlow: () => void;
  /** Called when it has accepted the request. */
  readonly onAccepted: () => void;
}

/**
 * Asks the listener for a session with a peer.
 *
 * @returns Undefined if this process must dial by itself. The peer has then received nothing.
 * @throws {Away} if the peer has not answered. @throws {Failure} if the listener says that the peer cannot be reached.
 * @throws {ConfigChanged} if it does not confirm those settings.
 */
export async function openViaListener(
  locator: ControlSocket,
  request: ListenerRequest,
): Promise<OutboundSession | undefined> {
  const begin = performance.now();
  try {
    return await openOnce(locator, request);
  } catch (error) {
    const wasShort = performance.now() - begin < SHORT_DIAL_MS;
    if (!(error instanceof Away && wasShort)) throw error;
    const { isPairing } = await import("./started_by.ts");
    if (!await isPairing()) throw error;
    // The user expects the peer to be there.
    await requestForget(locator, request.address, request.signal).catch(() => {
      throw error;
    });
    return await openOnce(locator, request);
  }
}

async function openOnce(
  locator: ControlSocket,
  { address, onLane, signal, config, onSlow, onAccepted }: ListenerRequest,
): Promise<OutboundSession | undefined> {
  const accepted = new AbortController();
  delayWhileRunning(SLOW_MS, accepted.signal).then(() => {
    if (accepted.signal.aborted) return; // at the same moment
    debug(() => `no answer within ${SLOW_MS} ms`);
    onSlow();
  }, () => {}); // it has accepted, or failed, before
  try {
    const id = newSessionId();
    const first = { id, isResumed: false, config };
    let proxied = await requestSession(locator, address, first, signal);
    proxied.accepted.then(() => {
      accepted.abort();
      onAccepted();
    }, () => {}); // `open` rejects, too
    const upgrade = new LaneUpgrade({
      stream: proxied.stream,
      connectionClosed: proxied.closedError,
      peerKey: () => publicKeyOf(address),
      openLane: () => proxied.openLane(),
      onLane,
      async resume(signal) {
        progress.pause();
        const before = proxied;
        proxied = await requestSession(locator, address, { id, isResumed: true }, signal);
        before[Symbol.dispose]();
        await proxied.open;
        progress.restart();
        return { stream: proxied.stream, connectionClosed: proxied.closedError };
      },
      signal,
    });
    await proxied.open;
    const { session } = upgrade;
    session.deliveredByProxy(); // even if this process exits
    const progress = new Progress(session);
    const report = () => {
      const report = progress.next();
      if (report) proxied.report(report);
    };
    const timer = setInterval(report, REPORT_INTERVAL_MS);
    return {
      stream: session,
      async finish() {
        report();
        await settle(session.detach().then(() => proxied.flush()));
      },
      async giveUp(error) {
        report();
        const reason = new StreamError("refused", "given up", { code: abortCode(error) });
        const aborted = session.abort(reason);
        await settle(aborted.then(() => proxied.flush()));
      },
      [Symbol.dispose]() {
        clearInterval(timer);
        upgrade[Symbol.dispose]();
        proxied[Symbol.dispose]();
      },
    };
  } catch (error) {
    if (!(error instanceof ControlUnavailable) || error instanceof ConfigChanged) throw error;
    debug(() => `not through the running listener: ${error.message}`);
    return undefined;
  } finally {
    accepted.abort();
  }
}

/** The progress that is reported to the listener. It counts from when the listener has opened or resumed the session. */
class Progress {
  #session: Session;
  /** What was reported before the session was resumed. */
  #before = { sent: 0, received: 0 };
  #last = { sent: 0, received: 0, lane: undefined as string | undefined };
  #isPaused = false;

  constructor(session: Session) {
    this.#session = session;
  }

  /** Returns the next report; undefined if nothing has changed. */
  next(): Record<string, unknown> | undefined {
    if (this.#isPaused) return undefined;
    const { lane } = this.#session, last = this.#last;
    const next = {
      sent: this.#session.sent - this.#before.sent,
      received: this.#session.received - this.#before.received,
      lane: lane && `${lane.kind} ${lane.remote}`,
    };
    if (JSON.stringify(next) === JSON.stringify(last)) return undefined;
    this.#last = next;
    return next;
  }

  /** Reports nothing, since the listener has given up its part of the session. */
  pause(): void {
    this.#isPaused = true;
  }

  /** Counts anew, since the session is resumed. The listener has counted what was reported so far. */
  restart(): void {
    this.#before.sent += this.#last.sent;
    this.#before.received += this.#last.received;
    this.#last = { sent: 0, received: 0, lane: undefined };
    this.#isPaused = false;
  }
}

async function publicKeyOf(address: string): Promise<string> {
  const { decodeTicket } = await import("../repository/ticket.ts");
  return decodeTicket(address).publicKey.toHex();
}

/** Waits until the listener has taken what was sent, but not if it reads nothing. */
async function settle(sent: Promise<void>): Promise<void> {
  using timeout = new LinkedSignal([], { milliseconds: FLUSH_TIMEOUT_MS });
  await abortable(sent, timeout.signal).catch((error) =>
    debug(() => `the listener reads nothing: ${error}`)
  );
}
