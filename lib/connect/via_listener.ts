/** A line through the running listener of this repository, by a connection that it keeps. */

import { abortable } from "../async/abort.ts";
import { StreamError } from "../streams/duplex.ts";
import { ControlUnavailable, requestSession } from "../control/client.ts";
import type { ControlLocator } from "../control/locator.ts";
import { debug } from "../console/stderr.ts";
import { abortCode, type OutboundSession, withLaneUpgrade } from "./outbound.ts";

/** For the listener to be told of the end. */
const TELL_LIMIT_MS = 500;
/** How often the listener is told how far it is: it waits for what is moving before it stops. */
const REPORT_MS = 250;

/**
 * Asks the listener for a stream.
 *
 * @param onLane Called when it goes by a lane.
 * @returns Undefined if the process is to do it by itself; then nothing has been sent.
 * @throws {Failure} if the peer cannot be reached, as the listener says.
 */
export async function openViaListener(
  address: string,
  locator: ControlLocator,
  onLane: () => void,
  signal: AbortSignal,
): Promise<OutboundSession | undefined> {
  try {
    const proxied = await requestSession(locator, address, signal);
    const openLane = () => proxied.openLane();
    const upgradable = withLaneUpgrade(
      proxied.stream,
      proxied.closedError,
      openLane,
      onLane,
      signal,
    );
    await proxied.open;
    const { session } = upgradable;
    session.deliveredByProxy(); // by the listener
    let reported = "";
    const report = () => {
      const { sent, received } = session, { lane } = upgradable;
      const now = { sent, received, lane: lane && `${lane.kind} ${lane.remote}` };
      const text = JSON.stringify(now);
      if (text === reported) return;
      reported = text;
      proxied.report(now);
    };
    const timer = setInterval(report, REPORT_MS);
    return {
      stream: session,
      async finish() {
        report();
        await inTime(proxied.flush());
      },
      async giveUp(error) {
        report();
        const reason = new StreamError("refused", "given up", { code: abortCode(error) });
        const telling = session.abort(reason);
        await inTime(telling.then(() => proxied.flush()));
      },
      [Symbol.dispose]() {
        clearInterval(timer);
        upgradable[Symbol.dispose]();
        proxied[Symbol.dispose]();
      },
    };
  } catch (error) {
    if (!(error instanceof ControlUnavailable)) throw error;
    debug(() => `not through the running listener: ${error.message}`);
    return undefined;
  }
}

/** Waits for what the listener is told, but not where it takes nothing. */
async function inTime(telling: Promise<void>): Promise<void> {
  const limit = AbortSignal.timeout(TELL_LIMIT_MS);
  await abortable(telling, limit).catch((error) => debug(() => `not told: ${error}`));
}
