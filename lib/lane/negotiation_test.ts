import assert from "node:assert/strict";
import { assertClosed } from "../../tests/lanes.ts";
import { pipe } from "../../tests/pipe.ts";
import { makeCertificate } from "./certificate.ts";
import { LaneError } from "./lane.ts";
import { LANE_TIMEOUTS, LaneEndpoint } from "./gathering.ts";
import { SignalingStream } from "./signaling.ts";
import type { Offer } from "./offer.ts";
import { answerLane, offerLane } from "./negotiation.ts";
import { connectTls } from "./tls.ts";

const ADDRESSES = { local: ["127.0.0.1"], observedRemote: "127.0.0.1" };
const OPTIONS = { addresses: ADDRESSES, signal: new AbortController().signal };

/** Returns an offer without addresses. */
async function nowhere(): Promise<Offer> {
  const { der: certificate } = await makeCertificate();
  const secret = crypto.getRandomValues(new Uint8Array(32));
  return { certificate, secret, tcp: [], udp: [] };
}

Deno.test("answerLane: gives up and closes its ports as soon as the opener has given up", async () => {
  const [ours, theirs] = pipe();
  const answering = answerLane(theirs, true, OPTIONS);
  const messages = new SignalingStream(ours);
  await messages.send({ kind: "offer", offer: await nowhere() });
  const answer = await messages.receive();
  assert(answer?.kind === "offer");
  const { certificate, tcp: [address] } = answer.offer;
  (await connectTls(address!, certificate, AbortSignal.timeout(5_000))).close(); // it is open
  messages.close();
  await assert.rejects(answering, new LaneError("the other end has given up"));
  await assertClosed(address!, certificate);
});

Deno.test("answerLane: gives up if an invalid message comes before the lane is made", async () => {
  const [ours, theirs] = pipe();
  const answering = answerLane(theirs, true, OPTIONS);
  const messages = new SignalingStream(ours);
  await messages.send({ kind: "offer", offer: await nowhere() });
  assert.equal((await messages.receive())?.kind, "offer");
  await messages.send({ kind: "offer", offer: { ...await nowhere(), secret: new Uint8Array(1) } });
  // A LaneError ends the lane. An InvalidOffer would end the connection.
  await assert.rejects(answering, { name: "LaneError", message: /^no message of the other end: / });
});

Deno.test("offerLane: makes no lane if the other end has given up, even if it gets through", async () => {
  const [ours, theirs] = pipe();
  const offering = offerLane(ours, OPTIONS);
  const messages = new SignalingStream(theirs);
  const offered = await messages.receive();
  assert(offered?.kind === "offer");
  using endpoint = await LaneEndpoint.open(ADDRESSES.local);
  await messages.send({ kind: "offer", offer: endpoint.offer });
  messages.close();
  const made = endpoint.establish(
    offered.offer,
    {},
    false,
    AbortSignal.timeout(500),
  );
  await assert.rejects(offering, new LaneError("the other end has given up"));
  await made.then((lane) => lane.close(), () => {}); // the nomination may have come before
});

Deno.test("offerLane: if nothing gets through in time, both ends give up at once", async () => {
  const checksMs = 300;
  const [ours, theirs] = pipe();
  const begun = performance.now();
  const addresses = { local: [], observedRemote: undefined };
  const unreachable = { ...OPTIONS, addresses, timeouts: { checksMs } };
  const both = await Promise.allSettled([
    offerLane(ours, unreachable),
    answerLane(theirs, true, unreachable),
  ]);
  const reasons = both.map((end) => end.status === "rejected" && String(end.reason));
  assert.deepEqual(reasons, [
    "LaneError: nothing gets through",
    "LaneError: the other end has given up",
  ]);
  const took = performance.now() - begun;
  assert(took >= checksMs && took < LANE_TIMEOUTS.checksMs, `${took} ms`);
});

Deno.test("SignalingStream: hasMore() takes no message away", async () => {
  const [ours, theirs] = pipe();
  const sending = new SignalingStream(ours), receiving = new SignalingStream(theirs);
  const more = receiving.hasMore();
  await sending.send({ kind: "none" });
  await sending.send({ kind: "made" });
  assert.deepEqual([await more, await receiving.hasMore()], [true, true]);
  assert.deepEqual(await receiving.receive(), { kind: "none" });
  assert.deepEqual(await receiving.receive(), { kind: "made" });
  const none = receiving.hasMore();
  sending.close();
  assert.deepEqual([await none, await receiving.receive()], [false, undefined]);
});
