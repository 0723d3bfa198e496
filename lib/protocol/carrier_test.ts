import assert from "node:assert/strict";
import { AttachedCarrier } from "./carrier.ts";
import type { FrameHandler } from "./frames.ts";
import { type MemoryLane, memoryLane, RawPeer, turns, until } from "../../tests/memory_carriers.ts";

/** A carrier that answers probes, its lane, and the peer's end. */
function attach(): { carrier: AttachedCarrier; lane: MemoryLane; peer: RawPeer } {
  const [lane, peers] = memoryLane();
  const ignore = () => {};
  const handler = (from: AttachedCarrier): FrameHandler => ({
    start: ignore,
    data: ignore,
    end: ignore,
    ack: ignore,
    stop: ignore,
    probe: (id) => from.echo(id),
    echo: (id) => from.onEcho(id),
  });
  const carrier = new AttachedCarrier(lane, handler);
  carrier.readAll().catch(() => {}); // it is dropped
  return { carrier, lane, peer: RawPeer.onLane(peers) };
}

Deno.test("AttachedCarrier is unanswered from a write until something comes", async () => {
  const { carrier, peer } = attach();
  assert.equal(carrier.isUnanswered, false);
  await carrier.send(Uint8Array.of(5));
  assert.equal(carrier.isUnanswered, true);
  await peer.send((f) => f.stop());
  await until(() => carrier.piecesReceived === 1);
  assert.equal(carrier.isUnanswered, false);
  await peer.send((f) => f.probe(1));
  await peer.expect("echo");
  assert.equal(carrier.isUnanswered, false); // to an answer no answer comes
});

Deno.test("AttachedCarrier takes nothing for an answer that came during the write", async () => {
  const { carrier, lane, peer } = attach();
  lane.out.isHeld = true;
  const sending = carrier.send(new Uint8Array(200_000).fill(5)); // which does not fit
  await turns(5);
  await peer.send((f) => f.stop());
  await until(() => carrier.piecesReceived === 1);
  lane.out.release();
  await sending;
  assert.equal(carrier.isUnanswered, true);
});

Deno.test("AttachedCarrier: each probe waits for an answer of its own", async () => {
  const { carrier, peer } = attach();
  for (const id of [1, 2]) {
    let isAnswered = false;
    const probing = carrier.probe().then(() => isAnswered = true);
    assert.deepEqual(await peer.expect("probe"), ["probe", id]);
    await peer.send((f) => f.echo(id - 1));
    await turns(5);
    assert.equal(isAnswered, false);
    await peer.send((f) => f.echo(id));
    await probing;
  }
});

Deno.test("AttachedCarrier writes frames and their data together, and answers between them", async () => {
  const { carrier, lane, peer } = attach();
  lane.out.isHeld = true;
  const header = Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0);
  const sending = [1, 2].map(() => carrier.send(header, new Uint8Array(0x10000)));
  for (const id of [3, 4, 5]) await peer.send((f) => f.probe(id));
  await turns(5);
  lane.out.release();
  await Promise.all(sending);
  assert.deepEqual(await peer.expect("echo"), ["echo", 5]); // data would not have been parsed else
});

Deno.test("AttachedCarrier gives up pending writes when it is dropped", async () => {
  const { carrier, lane } = attach();
  lane.out.isHeld = true;
  const reason = new Error("enough");
  const sending = carrier.send(new Uint8Array(200_000));
  const rejected = assert.rejects(sending, reason);
  carrier.drop(reason);
  await rejected;
  await assert.rejects(carrier.send(Uint8Array.of(5)));
  await assert.rejects(carrier.probe());
  await carrier.echo(1); // never rejects
  assert(lane.isClosed);
});
