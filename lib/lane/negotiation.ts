/**
 * Negotiates a lane on a signaling stream. The opener of the session begins, and chooses the connection. In all
 * else both ends do the same. docs/protocol.md, "Making a lane"
 */

import { abortable } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { lostAddressDetector } from "../platform/network_interfaces.ts";
import type { Duplex } from "../streams/duplex.ts";
import { LaneEndpoint, type LaneTimeouts, type ObservedPeer } from "./gathering.ts";
import { type Lane, LaneError, type Transport } from "./lane.ts";
import type { IsWorthTrying } from "./nomination.ts";
import { InvalidOffer, type Offer } from "./offer.ts";
import { type SignalingMessage, SignalingStream } from "./signaling.ts";

/** Timeout for the other end's offer. The acceptor may wait 5 s of it until git-annex has let the peer in. */
const OFFER_TIMEOUT_MS = 15_000;
/** Timeout for the other end to say that it has the lane, too: as long as it may take for its part. */
const MADE_TIMEOUT_MS = 30_000;

/** Where the two ends may reach each other. */
export interface LaneAddresses extends ObservedPeer {
  /** IP addresses at which the other end may reach this one. */
  readonly local: readonly string[];
}

/** What is needed to make a lane. */
export interface LaneOptions {
  readonly addresses: LaneAddresses;
  /** By default, every lane is worth a try. */
  readonly isWorthTrying?: IsWorthTrying;
  readonly signal: AbortSignal;
  /** Tests pass shorter ones. */
  readonly timeouts?: Partial<LaneTimeouts>;
}

/**
 * Offers a lane, at the opener of the session.
 *
 * @param stream A signaling stream, after its header. It is closed here.
 * @returns Undefined if the other end wants no lane.
 * @throws {LaneError} if nothing gets through, or the error of the stream.
 */
export async function offerLane(stream: Duplex, options: LaneOptions): Promise<Lane | undefined> {
  return await closingUnlessMade(stream, async (messages) => {
    using endpoint = await LaneEndpoint.open(options.addresses.local, options.timeouts);
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
 * Answers an offer, at the acceptor of the session.
 *
 * @param stream A signaling stream, after its header. It is closed here.
 * @param isWanted False if git-annex has not let the peer in. The answer is then that there is to be no lane.
 * @returns Undefined if no lane is wanted.
 * @throws {InvalidOffer} if the first message is not an offer.
 * @throws {LaneError} if nothing gets through, or the error of the stream.
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
    if (!offered) throw new LaneError("the other end has withdrawn its offer");
    if (offered.kind !== "offer") throw new InvalidOffer("the first message is not an offer");
    if (!isWanted) {
      await messages.send({ kind: "none" });
      return undefined;
    }
    using endpoint = await LaneEndpoint.open(options.addresses.local, options.timeouts);
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

/** Makes the lane. Gives up if the other end closes the signaling stream before the lane is made. */
async function establish(
  endpoint: LaneEndpoint,
  remote: Offer,
  isControlling: boolean,
  messages: SignalingStream,
  { addresses, isWorthTrying = () => true, signal }: LaneOptions,
): Promise<Lane> {
  const gaveUp = new AbortController();
  messages.hasMore().then((hasMore) => {
    if (!hasMore) gaveUp.abort(new LaneError("the other end has given up"));
  }, (error) => gaveUp.abort(new LaneError(`no message of the other end: ${error}`)));
  const until = AbortSignal.any([signal, gaveUp.signal]);
  const isLost = lostAddressDetector();
  const transport = await endpoint.establish(
    remote,
    addresses,
    isControlling,
    until,
    isWorthTrying,
  );
  if (until.aborted) {
    transport.close(); // the other end has closed it
    throw until.reason;
  }
  debug(() => `lane: ${transport.kind} with ${transport.remote}`);
  return laneOf(transport, () => isLost(transport.local));
}

function laneOf(transport: Transport, hasMoved: () => boolean): Lane {
  return {
    kind: transport.kind,
    remote: transport.remote,
    read: () => transport.read(),
    write: (bytes) => transport.write(bytes),
    close: () => transport.close(),
    hasMoved,
  };
}

/**
 * Closes the signaling stream. If no lane is made, it closes it at once, which tells the other end. Otherwise it
 * first waits until the other end has the lane, too.
 */
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

/** Never rejects. */
async function closeWhenBothHaveIt(messages: SignalingStream): Promise<void> {
  try {
    await messages.send({ kind: "made" });
    await abortable(messages.receive(), AbortSignal.timeout(MADE_TIMEOUT_MS));
  } catch (error) {
    debug(() => `lane: cannot tell whether the other end has it: ${error}`); // the session finds out
  } finally {
    messages.close();
  }
}
