/** An outbound session, which carries git-annex's bytes to a peer and back by whichever transport. */

import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { Lane } from "../lane/lane.ts";
import type { LaneAddresses } from "../lane/negotiation.ts";
import { debug } from "../console/stderr.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import { Session } from "../protocol/session.ts";

/**
 * Bytes of a session from which it asks for a lane. Making a lane takes as long as iroh needs for about
 * 1 MiB (docs/benchmarks.md). To ask at a quarter of that costs a shorter session at most 100 ms, and saves
 * a longer one as much.
 */
const LANE_AFTER_BYTES = 256 * 1024;

/** A session that this process has opened. Dispose of it when it is over. */
export interface OutboundSession extends Disposable {
  readonly stream: Duplex;
  /** Ends it when both directions have ended. */
  finish(): Promise<void>;
  /** Ends it early, and tells the peer. @param error What has ended it. */
  giveUp(error: unknown): Promise<void>;
}

/** Returns the close code for a session that ends early. @param error What has ended it. */
export function abortCode(error: unknown): bigint {
  const isLost = error instanceof StreamError && error.kind === "lost";
  return isLost ? CloseCode.LANE_LOST : CloseCode.STOPPED;
}

/** A stream for the signaling of a lane. Dispose of it with the lane. */
export interface LaneSignaling extends Disposable {
  readonly stream: Duplex;
  readonly addresses: LaneAddresses;
}

/** A session of the mux protocol that migrates to a lane as soon as that pays. */
export interface UpgradableSession extends Disposable {
  readonly session: Session;
  /** The lane that carries the session, if one does. */
  readonly lane: Lane | undefined;
}

/**
 * Makes a session on a stream of iroh's connection, and asks for a lane after
 * {@linkcode LANE_AFTER_BYTES}.
 *
 * @param stream A stream whose header has been written.
 * @param connectionClosed Resolves when iroh's connection has ended.
 * @param onLane Called when the session migrates to a lane.
 */
export function withLaneUpgrade(
  stream: Duplex,
  connectionClosed: Promise<StreamError>,
  openLane: () => Promise<LaneSignaling>,
  onLane: () => void,
  signal: AbortSignal,
): UpgradableSession {
  const resources = new DisposableStack();
  let isOffered = false, lane: Lane | undefined;
  const session: Session = new Session(stream, connectionClosed, () => {
    if (isOffered || session.sent + session.received < LANE_AFTER_BYTES) return;
    isOffered = true;
    makeLane().catch((error) => debug(() => `no lane: ${error}`)); // the session stays where it is
  });
  async function makeLane(): Promise<void> {
    const [{ offerLane }, signaling] = await Promise.all([
      import("../lane/negotiation.ts"),
      openLane(),
    ]);
    resources.use(signaling);
    const control = await offerLane(signaling.stream, session, signaling.addresses, signal);
    if (!control) return;
    resources.use(control);
    lane = control.lane;
    onLane();
  }
  return {
    session,
    get lane() {
      return lane;
    },
    [Symbol.dispose]: () => resources.dispose(),
  };
}
