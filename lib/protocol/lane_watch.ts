/** Notices that a lane is silent although the peer is there: nothing tells otherwise that packets are dropped. */

import { abortable, delay, RunningTimeout } from "../async/abort.ts";
import type { AttachedCarrier } from "./carrier.ts";

/** Interval between two looks at whether anything has come by a lane on which something was sent. */
const LOOK_MS = 500;
/** Timeout for a lane to be heard after the peer has answered at home: more than a lost packet costs. */
const STALL_MS = 2_000;
/** Maximum time that one tick of it counts for. On a busy machine too, a user waits while a lane is dead. */
const STALL_TICK_MS = 200;

/** A lane, and what tells whether the peer should be heard on it. */
export interface WatchedLane {
  readonly lane: AttachedCarrier;
  /** Returns the carrier on which the peer is asked whether it is there. */
  readonly home: () => AttachedCarrier;
  /** Returns whether the peer has yet to acknowledge something. */
  readonly isInFlight: () => boolean;
}

/** Time limits, which tests set. */
export interface LaneWatchLimits {
  readonly lookMs?: number | undefined;
  readonly stallMs?: number | undefined;
}

/**
 * Resolves to true when a lane is silent after something was sent on it, and the peer answers at home. If the peer
 * answers nowhere, its process stands still, and the lane may be good. Resolves to false when the lane is dropped.
 */
export async function isFoundSilent(
  { lane, home, isInFlight }: WatchedLane,
  { lookMs = LOOK_MS, stallMs = STALL_MS }: LaneWatchLimits,
): Promise<boolean> {
  while (!lane.dropped.aborted) {
    const before = lane.piecesReceived;
    await delay(lookMs, lane.dropped).catch(() => {}); // the lane is dropped
    // An acknowledgement may be lost, too, for which the peer waits.
    const isAwaited = isInFlight() || lane.isUnanswered;
    if (!isAwaited || lane.piecesReceived !== before) continue;
    lane.probe().catch(() => {}); // the lane is dropped
    const answer = home().probe().then(() => true, () => false); // it has no home, or ends
    const first = Promise.race([answer, lane.heard().then(() => false)]);
    const isAnsweredAtHome = await abortable(first, lane.dropped).catch(() => false); // dropped
    if (!isAnsweredAtHome || lane.dropped.aborted || lane.piecesReceived !== before) continue;
    using limit = new RunningTimeout(
      { milliseconds: stallMs, maxTickMs: STALL_TICK_MS },
      new Error("it is silent"),
      lane.dropped,
    );
    const isHeard = await abortable(lane.heard(), limit.signal).then(() => true, () => false);
    if (!isHeard && !lane.dropped.aborted) return true;
  }
  return false;
}
