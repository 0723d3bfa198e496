/**
 * From a lane stream to a lane. The two ends differ only in that the opener begins, and chooses.
 * docs/protocol.md, "Making a lane"
 */

import { abortable } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import type { Duplex } from "../streams/duplex.ts";
import { LaneEndpoint } from "./gathering.ts";
import { type Lane, LaneError } from "./lane.ts";
import { InvalidOffer, type Offer } from "./offer.ts";
import { type SignalingMessage, SignalingStream } from "./signaling.ts";

/** Timeout for the other end's offer, which may wait until git-annex has let the peer in. */
const OFFER_TIMEOUT_MS = 15_000;
/** Timeout for the other end to say that it has the lane, too. */
const MADE_TIMEOUT_MS = 30_000;

/** By which addresses the two ends may reach each other. */
export interface LaneAddresses {
  /** IP addresses by which the other end may reach this one. */
  readonly local: readonly string[];
  /** IP address at which iroh sees the other end, if it does. */
  readonly observedRemote: string | undefined;
}

/** Returns whether a lane of that kind, with that IP address, is worth a try. */
export type IsWorthTrying = (kind: Lane["kind"], remoteHost: string) => boolean;

/** What is needed to make a lane. */
export interface LaneOptions {
  readonly addresses: LaneAddresses;
  /** By default, everything is. */
  readonly isWorthTrying?: IsWorthTrying;
  readonly signal: AbortSignal;
}

/**
 * Opener of the session: offers a lane.
 *
 * @param stream Opened for this; its header has been sent. Closed here.
 * @returns Undefined if the other end wants none.
 * @throws {LaneError} if nothing gets through, or what the stream gives.
 */
export async function offerLane(stream: Duplex, options: LaneOptions): Promise<Lane | undefined> {
  return await closingUnlessMade(stream, async (messages) => {
    using endpoint = await LaneEndpoint.open(options.addresses.local);
    await messages.send({ kind: "offer", offer: endpoint.offer });
    const answer = await receiveFirst(messages, options.signal);
    if (answer?.kind === "offer") {
      return await establish(endpoint, answer.offer, true, messages, options);
    }
    debug(() => "lane: the peer wants none");
    return undefined;
  });
}

/**
 * Acceptor of the session: answers an offer.
 *
 * @param isWanted Whether to make a lane at all: git-annex must have let the peer in.
 * @returns and @throws As {@linkcode offerLane}.
 * @throws {InvalidOffer} if what comes is no offer.
 */
export async function answerLane(
  stream: Duplex,
  isWanted: boolean,
  options: LaneOptions,
): Promise<Lane | undefined> {
  return await closingUnlessMade(stream, async (messages) => {
    const offered = await receiveFirst(messages, options.signal).catch((error) => {
      throw error instanceof LaneError ? new InvalidOffer(error.message) : error;
    });
    if (!offered) throw new LaneError("the peer has withdrawn its offer");
    if (offered.kind !== "offer") throw new InvalidOffer("it does not begin with an offer");
    if (!isWanted) {
      await messages.send({ kind: "none" });
      return undefined;
    }
    using endpoint = await LaneEndpoint.open(options.addresses.local);
    await messages.send({ kind: "offer", offer: endpoint.offer });
    return await establish(endpoint, offered.offer, false, messages, options);
  });
}

/** Returns the first message of the other end. */
async function receiveFirst(
  messages: SignalingStream,
  signal: AbortSignal,
): Promise<SignalingMessage | undefined> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(OFFER_TIMEOUT_MS)]);
  return await abortable(messages.receive(), limit);
}

/** Makes the lane, unless the other end gives up, which is then the end of the lane stream. */
async function establish(
  endpoint: LaneEndpoint,
  remote: Offer,
  isControlling: boolean,
  messages: SignalingStream,
  { addresses: { observedRemote }, isWorthTrying = () => true, signal }: LaneOptions,
): Promise<Lane> {
  const gaveUp = new AbortController();
  messages.hasMore().then((hasMore) => {
    if (!hasMore) gaveUp.abort(new LaneError("the other end has given up"));
  }, (error) => gaveUp.abort(new LaneError(`the other end says ${error}`)));
  const until = AbortSignal.any([signal, gaveUp.signal]);
  const lane = await endpoint.establish(
    remote,
    observedRemote,
    isControlling,
    until,
    isWorthTrying,
  );
  if (until.aborted) {
    lane.close(); // by now it leads nowhere
    throw until.reason;
  }
  debug(() => `lane: ${lane.kind} with ${lane.remote}`);
  return lane;
}

/** Closes the lane stream at once if there is no lane, or else when the other end has it, too. */
async function closingUnlessMade(
  stream: Duplex,
  make: (messages: SignalingStream) => Promise<Lane | undefined>,
): Promise<Lane | undefined> {
  const messages = new SignalingStream(stream);
  let lane: Lane | undefined;
  try {
    return lane = await make(messages);
  } finally {
    if (lane) closeWhenBothHaveIt(messages);
    else messages.close();
  }
}

async function closeWhenBothHaveIt(messages: SignalingStream): Promise<void> {
  try {
    await messages.send({ kind: "made" });
    await abortable(messages.receive(), AbortSignal.timeout(MADE_TIMEOUT_MS));
  } catch (error) {
    debug(() => `lane: whether the other end has it is not known: ${error}`); // the lane will tell
  } finally {
    messages.close();
  }
}
