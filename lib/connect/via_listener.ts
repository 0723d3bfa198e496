/** An outbound session through the running listener of this repository, on a connection that it keeps. */

import { abortable } from "../async/abort.ts";
import { StreamError } from "../streams/duplex.ts";
import { ControlUnavailable, requestSession } from "../control/client.ts";
import type { ControlLocator } from "../control/locator.ts";
import { debug } from "../console/stderr.ts";
import { newSessionId } from "../protocol/mux.ts";
import { LaneUpgrade } from "./lane_upgrade.ts";
import { abortCode, type OutboundSession } from "./outbound.ts";

/** Timeout for the listener to take the last messages. git-annex waits for this process meanwhile. */
const FLUSH_TIMEOUT_MS = 500;
/** Interval between reports of progress. A listener that stops waits for sessions that progress. */
const REPORT_INTERVAL_MS = 250;

/**
 * Asks the listener for a session with a peer.
 *
 * @param onLane Called when the session migrates to a lane.
 * @returns Undefined if this process must dial by itself. The peer has then received nothing.
 * @throws {Failure} if the listener says that the peer cannot be reached.
 */
export async function openViaListener(
  address: string,
  locator: ControlLocator,
  onLane: () => void,
  signal: AbortSignal,
): Promise<OutboundSession | undefined> {
  try {
    const id = newSessionId();
    let proxied = await requestSession(locator, address, { id, isResumed: false }, signal);
    const upgrade = new LaneUpgrade({
      stream: proxied.stream,
      connectionClosed: proxied.closedError,
      peerKey: () => publicKeyOf(address),
      openLane: () => proxied.openLane(),
      onLane,
      async resume(signal) {
        const before = proxied;
        proxied = await requestSession(locator, address, { id, isResumed: true }, signal);
        before[Symbol.dispose]();
        await proxied.open;
        return { stream: proxied.stream, connectionClosed: proxied.closedError };
      },
      signal,
    });
    await proxied.open;
    const { session } = upgrade;
    session.deliveredByProxy(); // even if this process exits
    let reported = "";
    const report = () => {
      const { sent, received, lane } = session;
      const now = { sent, received, lane: lane && `${lane.kind} ${lane.remote}` };
      const text = JSON.stringify(now);
      if (text === reported) return;
      reported = text;
      proxied.report(now);
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
    if (!(error instanceof ControlUnavailable)) throw error;
    debug(() => `not through the running listener: ${error.message}`);
    return undefined;
  }
}

async function publicKeyOf(address: string): Promise<string> {
  const { decodeTicket } = await import("../repository/ticket.ts");
  return decodeTicket(address).publicKey.toHex();
}

/** Waits until the listener has taken what was sent, but not if it reads nothing. */
async function settle(sent: Promise<void>): Promise<void> {
  const timeout = AbortSignal.timeout(FLUSH_TIMEOUT_MS);
  await abortable(sent, timeout).catch((error) =>
    debug(() => `the listener reads nothing: ${error}`)
  );
}
