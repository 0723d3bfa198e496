import assert from "node:assert/strict";
import { pipe } from "../../tests/pipe.ts";
import { makeCertificate } from "./certificate.ts";
import { LaneError } from "./lane.ts";
import { LaneEndpoint } from "./gathering.ts";
import { SignalingStream } from "./signaling.ts";
import type { Offer } from "./offer.ts";
import { answerLane, offerLane } from "./negotiation.ts";

const ADDRESSES = { local: ["127.0.0.1"], observedRemote: undefined };
const OPTIONS = { addresses: ADDRESSES, signal: new AbortController().signal };

/** An offer of nobody, by which nothing is reached. */
async function nowhere(): Promise<Offer> {
  const { der: certificate } = await makeCertificate();
  const secret = crypto.getRandomValues(new Uint8Array(32));
  return { certificate, secret, tcp: [], udp: [] };
}

Deno.test("answerLane: gives up, and closes its ports, as soon as whoever chooses has", async () => {
  const [ours, theirs] = pipe();
  const answering = answerLane(theirs, true, OPTIONS);
  const messages = new SignalingStream(ours);
  await messages.send({ kind: "offer", offer: await nowhere() });
  const answer = await messages.receive();
  assert(answer?.kind === "offer");
  const [hostname, port] = answer.offer.tcp[0]!.split(":");
  const connect = () => Deno.connect({ hostname: hostname!, port: Number(port) });
  (await connect()).close(); // it is open
  messages.close();
  await assert.rejects(answering, new LaneError("the other end has given up"));
  await assert.rejects(connect()); // refused, or reset
});

Deno.test("answerLane: gives up where what comes before there is a lane makes no sense", async () => {
  const [ours, theirs] = pipe();
  const answering = answerLane(theirs, true, OPTIONS);
  const messages = new SignalingStream(ours);
  await messages.send({ kind: "offer", offer: await nowhere() });
  assert.equal((await messages.receive())?.kind, "offer");
  await messages.send({ kind: "offer", offer: { ...await nowhere(), secret: new Uint8Array(1) } });
  // A lane error: what is no lane is no reason to end the connection.
  await assert.rejects(answering, { name: "LaneError", message: /^the other end says / });
});

Deno.test("offerLane: does not move where the other end has given up, and lets in nevertheless", async () => {
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
    undefined,
    false,
    AbortSignal.timeout(3_000),
  );
  await assert.rejects(offering, new LaneError("the other end has given up"));
  await made.then((lane) => lane.close(), () => {}); // whether it came to a choice before
});

Deno.test("offerLane: where nothing gets through, both ends are through as soon as its time is over", async () => {
  const [ours, theirs] = pipe();
  const begun = performance.now();
  const unreachable = { ...OPTIONS, addresses: { local: [], observedRemote: undefined } };
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
  assert(took >= 8_000, `${took} ms`);
});

Deno.test("SignalingStream: whether there is more takes nothing away", async () => {
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
