import assert from "node:assert/strict";
import { pipe } from "../../tests/pipe.ts";
import { makeCertificate } from "./certificate.ts";
import { LaneError } from "./lane.ts";
import { LaneStream } from "./messages.ts";
import { answerLane, type Movable } from "./start.ts";

const ENDS = { hosts: ["127.0.0.1"], seenAt: undefined };
const never = new AbortController().signal;

/** A session that is never to move. */
function unmoved(): Movable {
  const useLane = () => Promise.reject(new Error("it has moved"));
  return { expectLane: () => {}, useLane } as unknown as Movable;
}

Deno.test("answerLane: gives up, and closes its ports, as soon as whoever chooses has", async () => {
  const [ours, theirs] = pipe();
  const answering = answerLane(theirs, unmoved(), ENDS, true, never);
  const messages = new LaneStream(ours);
  const { der: certificate } = await makeCertificate();
  const secret = crypto.getRandomValues(new Uint8Array(32));
  await messages.send({ kind: "offer", offer: { certificate, secret, tcp: [], udp: [] } });
  const answer = await messages.receive();
  assert(answer?.kind === "offer");
  const [hostname, port] = answer.offer.tcp[0]!.split(":");
  const connect = () => Deno.connect({ hostname: hostname!, port: Number(port) });
  (await connect()).close(); // it is open
  messages.close();
  await assert.rejects(answering, new LaneError("the other end has given up"));
  await assert.rejects(connect()); // refused, or reset
});

Deno.test("LaneStream: whether there is more takes nothing away", async () => {
  const [ours, theirs] = pipe();
  const sending = new LaneStream(ours), receiving = new LaneStream(theirs);
  const more = receiving.hasMore();
  await sending.send({ kind: "none" });
  await sending.send({ kind: "stop" });
  assert.deepEqual([await more, await receiving.hasMore()], [true, true]);
  assert.deepEqual(await receiving.receive(), { kind: "none" });
  assert.deepEqual(await receiving.receive(), { kind: "stop" });
  const none = receiving.hasMore();
  sending.close();
  assert.deepEqual([await none, await receiving.receive()], [false, undefined]);
});
