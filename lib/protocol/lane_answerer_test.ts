import assert from "node:assert/strict";
import { abortable } from "../async/abort.ts";
import { makeCertificate } from "../lane/certificate.ts";
import type { Lane } from "../lane/lane.ts";
import { SignalingStream } from "../lane/signaling.ts";
import { MemoryConnection } from "../../tests/memory_connection.ts";
import { pipe } from "../../tests/pipe.ts";
import { LaneAnswerer } from "./lane_answerer.ts";

/** Answers lane streams of a test, for a session without bytes. */
class Answering {
  readonly lanes: Lane[] = [];
  readonly #answerer: LaneAnswerer;
  readonly #stop = new AbortController();
  #answers: Promise<boolean>[] = [];

  constructor(authTimeoutMs: number) {
    const session = { restUntil() {}, attachLane: (lane: Lane) => void this.lanes.push(lane) };
    this.#answerer = new LaneAnswerer(session, undefined, authTimeoutMs);
  }

  letIn(): void {
    this.#answerer.markAuthenticated();
  }

  /** Sends an offer of a lane to nowhere, as the peer. */
  async offer(): Promise<SignalingStream> {
    const [mine, peers] = pipe(), messages = new SignalingStream(peers);
    const { asConnection } = new MemoryConnection();
    this.#answers.push(this.#answerer.answer(mine, asConnection, this.#stop.signal));
    const { der: certificate } = await makeCertificate();
    const offer = { certificate, secret: new Uint8Array(32), tcp: [], udp: [] };
    await messages.send({ kind: "offer", offer });
    return messages;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("the test is over"));
    assert((await Promise.all(this.#answers)).every((isValid) => isValid));
  }
}

Deno.test("LaneAnswerer answers a stranger's offer with NONE, and opens no port", async () => {
  await using answering = new Answering(20);
  const stranger = await answering.offer();
  assert.deepEqual(await stranger.receive(), { kind: "none" });
});

Deno.test("LaneAnswerer answers an offer once git-annex has let the peer in, and not before", async () => {
  await using answering = new Answering(60_000);
  const peer = await answering.offer();
  let isAnswered = false;
  const answer = peer.receive().finally(() => isAnswered = true);
  await new Promise((resolve) => setTimeout(resolve, 100)); // an answer takes 30 ms
  assert.equal(isAnswered, false);
  answering.letIn();
  assert.equal((await answer)?.kind, "offer");
});

Deno.test("LaneAnswerer gives up a lane that is being made when another one is offered", async () => {
  await using answering = new Answering(60_000);
  answering.letIn();
  const first = await answering.offer();
  assert.equal((await first.receive())?.kind, "offer");
  const second = await answering.offer();
  const soon = AbortSignal.timeout(10_000); // by itself the acceptor gives up after 30 s
  assert.equal(await abortable(first.receive(), soon), undefined); // it is closed
  assert.equal((await second.receive())?.kind, "offer");
});
