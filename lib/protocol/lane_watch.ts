/** Notices that nothing gets through on a lane any longer. The system tells so after many minutes, or never. */

import { abortable, delay, RunningTimeout } from "../async/abort.ts";
import type { Lane } from "../lane/lane.ts";
import type { AttachedCarrier } from "./carrier.ts";

/** Interval between two looks at whether anything has come by a lane on which something was sent. */
const LOOK_MS = 500;
/** Timeout for a lane to be heard after the peer has answered at home: more than a lost packet costs. */
const STALL_MS = 2_000;
/** Maximum time that one tick of it counts for. On a busy machine too, a user waits while a lane is dead. */
const STALL_TICK_MS = 200;

const SILENT = "it is silent";

/** A lane, and what tells whether the peer should be heard on it. */
export interface WatchedLane {
  readonly lane: AttachedCarrier<Lane>;
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
 * Waits until a lane has to be given up.
 *
 * @returns The reason; undefined if the lane is dropped before.
 */
export async function laneFault(
  watched: WatchedLane,
  { lookMs = LOOK_MS, stallMs = STALL_MS }: LaneWatchLimits,
): Promise<string | undefined> {
  return await Promise.race([stall(watched, lookMs, stallMs), move(watched, lookMs)]);
}

/**
 * Waits until a lane is silent after something was sent on it, and the peer answers at home. If the peer answers
 * nowhere, its process stands still, and the lane may be good.
 */
async function stall(
  { lane, home, isInFlight }: WatchedLane,
  lookMs: number,
  stallMs: number,
): Promise<string | undefined> {
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
    const time = { milliseconds: stallMs, maxTickMs: STALL_TICK_MS };
    using limit = new RunningTimeout(time, new Error(SILENT), lane.dropped);
    const isHeard = await abortable(lane.heard(), limit.signal).then(() => true, () => false);
    if (!isHeard && !lane.dropped.aborted) return SILENT;
  }
  return undefined;
}

/** Waits until a lane is silent, and this host has lost its IP address. */
async function move({ lane }: WatchedLane, lookMs: number): Promise<string | undefined> {
  while (!lane.dropped.aborted) {
    const before = lane.piecesReceived;
    await delay(lookMs, lane.dropped).catch(() => {}); // the lane is dropped
    const isSilent = !lane.dropped.aborted && lane.piecesReceived === before;
    if (isSilent && lane.carrier.hasMoved()) return "this host has lost an address";
  }
  return undefined;
}
