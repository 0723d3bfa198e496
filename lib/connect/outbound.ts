/** A line: what carries git-annex's bytes to a peer and back, however it came about. */

import { type Duplex, StreamError } from "../streams/duplex.ts";
import type { Lane } from "../lane/lane.ts";
import type { LaneAddresses } from "../lane/negotiation.ts";
import { debug } from "../console/stderr.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import { Session } from "../protocol/session.ts";

/**
 * A lane takes the time in which iroh moves 1 MiB or so, by docs/benchmarks.md. To begin at a quarter
 * of that costs what ends before a lane pays at most 100 ms, and saves all that goes on as much.
 */
const LANE_AFTER_BYTES = 256 * 1024;

/** Dispose of it when it is over. */
export interface OutboundSession extends Disposable {
  readonly stream: Duplex;
  /** Ends it, both directions being through. */
  finish(): Promise<void>;
  /** Ends it in the middle, and tells the peer so. @param error Why, if it was not this end's wish. */
  giveUp(error: unknown): Promise<void>;
}

/** With what code to give up a line. @param error What has ended it. */
export function abortCode(error: unknown): bigint {
  const isLost = error instanceof StreamError && error.kind === "lost";
  return isLost ? CloseCode.LANE_LOST : CloseCode.STOPPED;
}

/** A stream on which to agree on a lane. Dispose of it with the lane. */
export interface LaneSignaling extends Disposable {
  readonly stream: Duplex;
  readonly addresses: LaneAddresses;
}

/** A session of the mux protocol, which goes on by a lane as soon as that pays. */
export interface UpgradableSession extends Disposable {
  readonly session: Session;
  /** The lane, while it goes by one. */
  readonly lane: Lane | undefined;
}

/**
 * @param stream After what says what it is for.
 * @param connectionClosed Resolves when iroh's connection has ended.
 * @param onLane Called when it goes by a lane.
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
