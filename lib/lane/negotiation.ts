/** From a lane stream to a lane that a session uses. The two ends differ only in who begins, and chooses. */

import { abortable } from "../async/abort.ts";
import type { Duplex } from "../streams/duplex.ts";
import { debug } from "../console/stderr.ts";
import { type Lane, LaneError } from "./lane.ts";
import { LaneLink, type MigratableSession } from "./lane_control.ts";
import { LanePorts } from "./gathering.ts";
import { LaneStream, type Message } from "./signaling.ts";
import { BadOffer, type Offer } from "./offer.ts";

/** From the lane stream to the other end's offer, for which that may wait until the peer is let in. */
const OFFER_LIMIT_MS = 15_000;

/** Who is on the two ends. */
export interface Ends {
  /** IP addresses by which the other end may reach this one. */
  readonly hosts: readonly string[];
  /** IP address at which iroh sees the other end, if it does. */
  readonly seenAt: string | undefined;
}

/** A session that can go on by a lane. */
export interface Movable extends MigratableSession {
  throttleUntil(established: Promise<void>): void;
  migrateTo(target: LaneLink): Promise<void>;
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
  session: Movable,
  { hosts, seenAt }: Ends,
  signal: AbortSignal,
): Promise<LaneLink | undefined> {
  const messages = new LaneStream(stream);
  const making = (async () => {
    using ports = await LanePorts.open(hosts);
    await messages.send({ kind: "offer", offer: ports.offer });
    const answer = await heard(messages, signal);
    if (answer?.kind === "offer") {
      return await make(ports, answer.offer, seenAt, true, messages, signal);
    }
    debug(() => "lane: the peer wants none");
    return undefined;
  })();
  return await moveTo(making, messages, session);
}

/**
 * The other end: answers an offer.
 *
 * @param wanted Whether to make a lane at all: the peer must have been let in.
 * @returns and @throws As {@linkcode offerLane}.
 */
export async function answerLane(
  stream: Duplex,
  session: Movable,
  { hosts, seenAt }: Ends,
  wanted: boolean,
  signal: AbortSignal,
): Promise<LaneLink | undefined> {
  const messages = new LaneStream(stream);
  const making = (async () => {
    const offered = await heard(messages, signal).catch((error) => {
      throw error instanceof LaneError ? new BadOffer(error.message) : error;
    });
    if (!offered) throw new LaneError("the peer has thought better of it");
    if (offered.kind !== "offer") throw new BadOffer("it does not begin with an offer");
    if (!wanted) {
      await messages.send({ kind: "none" });
      return undefined;
    }
    using ports = await LanePorts.open(hosts);
    await messages.send({ kind: "offer", offer: ports.offer });
    return await make(ports, offered.offer, seenAt, false, messages, signal);
  })();
  return await moveTo(making, messages, session);
}

/** The first message of the other end. */
async function heard(messages: LaneStream, signal: AbortSignal): Promise<Message | undefined> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(OFFER_LIMIT_MS)]);
  return await abortable(messages.receive(), limit);
}

/** Makes it, unless the other end gives up, which is then the end of the lane stream. */
async function make(
  ports: LanePorts,
  theirs: Offer,
  seenAt: string | undefined,
  chooses: boolean,
  messages: LaneStream,
  signal: AbortSignal,
): Promise<Lane> {
  const gaveUp = new AbortController();
  messages.hasMore().then((hasMore) => {
    if (!hasMore) gaveUp.abort(new LaneError("the other end has given up"));
  }, (error) => gaveUp.abort(new LaneError(`the other end says ${error}`)));
  const until = AbortSignal.any([signal, gaveUp.signal]);
  const lane = await ports.make(theirs, seenAt, chooses, until);
  if (until.aborted) {
    lane.close(); // by now it leads to nobody
    throw until.reason;
  }
  return lane;
}

/** @param making The lane, if there is to be one. */
async function moveTo(
  making: Promise<Lane | undefined>,
  messages: LaneStream,
  session: Movable,
): Promise<LaneLink | undefined> {
  // Why there is none, is told to whoever asked for it.
  session.throttleUntil(making.then(() => {}, () => {}));
  let lane: Lane | undefined;
  try {
    lane = await making;
  } finally {
    if (!lane) messages.close();
  }
  return lane && await move(lane, messages, session);
}

async function move(lane: Lane, messages: LaneStream, session: Movable): Promise<LaneLink> {
  debug(() => `lane: ${lane.kind} with ${lane.remote}`);
  const link = new LaneLink(lane, messages, session);
  try {
    await session.migrateTo(link);
    return link;
  } catch (error) {
    link[Symbol.dispose]();
    throw error;
  }
}
