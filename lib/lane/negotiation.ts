/** From a lane stream to a lane that a session uses. The two ends differ only in who begins, and chooses. */

import { abortable } from "../async/abort.ts";
import type { Duplex } from "../streams/duplex.ts";
import { debug } from "../console/stderr.ts";
import { type Lane, LaneError } from "./lane.ts";
import { LaneControl, type MigratableSession } from "./lane_control.ts";
import { LaneEndpoint } from "./gathering.ts";
import { type SignalingMessage, SignalingStream } from "./signaling.ts";
import { InvalidOffer, type Offer } from "./offer.ts";

/** From the lane stream to the other end's offer, for which that may wait until the peer is let in. */
const OFFER_LIMIT_MS = 15_000;

/** Who is on the two ends. */
export interface LaneAddresses {
  /** IP addresses by which the other end may reach this one. */
  readonly local: readonly string[];
  /** IP address at which iroh sees the other end, if it does. */
  readonly observedRemote: string | undefined;
}

/**
 * Whoever has opened the session: offers a lane, and moves the session there if one can be made.
 *
 * @param stream Opened for this; the byte that says so has been sent.
 * @returns What is to be disposed of with the session; undefined if the session stays where it is.
 * @throws {LaneError} or what the stream gives.
 */
export async function offerLane(
  stream: Duplex,
  session: MigratableSession,
  { local, observedRemote }: LaneAddresses,
  signal: AbortSignal,
): Promise<LaneControl | undefined> {
  const messages = new SignalingStream(stream);
  const establishing = (async () => {
    using endpoint = await LaneEndpoint.open(local);
    await messages.send({ kind: "offer", offer: endpoint.offer });
    const answer = await receiveFirst(messages, signal);
    if (answer?.kind === "offer") {
      return await establish(endpoint, answer.offer, observedRemote, true, messages, signal);
    }
    debug(() => "lane: the peer wants none");
    return undefined;
  })();
  return await migrateWhenEstablished(establishing, messages, session);
}

/**
 * The other end: answers an offer.
 *
 * @param wanted Whether to make a lane at all: the peer must have been let in.
 * @returns and @throws As {@linkcode offerLane}.
 */
export async function answerLane(
  stream: Duplex,
  session: MigratableSession,
  { local, observedRemote }: LaneAddresses,
  wanted: boolean,
  signal: AbortSignal,
): Promise<LaneControl | undefined> {
  const messages = new SignalingStream(stream);
  const establishing = (async () => {
    const offered = await receiveFirst(messages, signal).catch((error) => {
      throw error instanceof LaneError ? new InvalidOffer(error.message) : error;
    });
    if (!offered) throw new LaneError("the peer has thought better of it");
    if (offered.kind !== "offer") throw new InvalidOffer("it does not begin with an offer");
    if (!wanted) {
      await messages.send({ kind: "none" });
      return undefined;
    }
    using endpoint = await LaneEndpoint.open(local);
    await messages.send({ kind: "offer", offer: endpoint.offer });
    return await establish(endpoint, offered.offer, observedRemote, false, messages, signal);
  })();
  return await migrateWhenEstablished(establishing, messages, session);
}

/** The first message of the other end. */
async function receiveFirst(
  messages: SignalingStream,
  signal: AbortSignal,
): Promise<SignalingMessage | undefined> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(OFFER_LIMIT_MS)]);
  return await abortable(messages.receive(), limit);
}

/** Makes it, unless the other end gives up, which is then the end of the lane stream. */
async function establish(
  endpoint: LaneEndpoint,
  remote: Offer,
  observedRemote: string | undefined,
  isControlling: boolean,
  messages: SignalingStream,
  signal: AbortSignal,
): Promise<Lane> {
  const gaveUp = new AbortController();
  messages.hasMore().then((hasMore) => {
    if (!hasMore) gaveUp.abort(new LaneError("the other end has given up"));
  }, (error) => gaveUp.abort(new LaneError(`the other end says ${error}`)));
  const until = AbortSignal.any([signal, gaveUp.signal]);
  const lane = await endpoint.establish(remote, observedRemote, isControlling, until);
  if (until.aborted) {
    lane.close(); // by now it leads to nobody
    throw until.reason;
  }
  return lane;
}

/** @param establishing The lane, if there is to be one. */
async function migrateWhenEstablished(
  establishing: Promise<Lane | undefined>,
  messages: SignalingStream,
  session: MigratableSession,
): Promise<LaneControl | undefined> {
  // Why there is none, is told to whoever asked for it.
  session.throttleUntil(establishing.then(() => {}, () => {}));
  let lane: Lane | undefined;
  try {
    lane = await establishing;
  } finally {
    if (!lane) messages.close();
  }
  return lane && await migrate(lane, messages, session);
}

async function migrate(
  lane: Lane,
  messages: SignalingStream,
  session: MigratableSession,
): Promise<LaneControl> {
  debug(() => `lane: ${lane.kind} with ${lane.remote}`);
  const control = new LaneControl(lane, messages, session);
  try {
    await session.migrateTo(control);
    return control;
  } catch (error) {
    control[Symbol.dispose]();
    throw error;
  }
}
