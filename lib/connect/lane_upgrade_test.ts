import assert from "node:assert/strict";
import { answerLane } from "../lane/negotiation.ts";
import { LaneUpgrade } from "./lane_upgrade.ts";
import { memoryStream, until } from "../../tests/memory_carriers.ts";
import { pipe } from "../../tests/pipe.ts";
import { SessionEnd } from "../../tests/session_pair.ts";

const ADDRESSES = { local: ["127.0.0.1"], observedRemote: "127.0.0.1" };
const BYTES = 300_000, EXCHANGES = 256;

Deno.test("LaneUpgrade holds one signaling stream, however many lanes were lost", async () => {
  const [mine, peers] = memoryStream(), peer = new SessionEnd(peers, {});
  const { signal } = new AbortController();
  let open = 0, offers = 0, isOffering = false;
  using upgrade = new LaneUpgrade({
    stream: mine,
    connectionClosed: new Promise(() => {}),
    peerKey() {
      if (!isOffering) return Promise.reject(new Error("no lane is to be remembered"));
      isOffering = false;
      return Promise.resolve("ab".repeat(32));
    },
    openLane() {
      isOffering = true;
      offers++;
      open++;
      const [stream, theirs] = pipe();
      answerLane(theirs, true, { addresses: ADDRESSES, signal })
        .then((lane) => peer.session.attachLane(lane!), () => {}); // it is given up
      return Promise.resolve({ stream, addresses: ADDRESSES, [Symbol.dispose]: () => open-- });
    },
    onLane() {},
    resume: () => Promise.reject(new Error("the connection stays")),
    signal,
  });
  const writer = upgrade.session.writable.getWriter();
  const move = () => Promise.all([writer.write(new Uint8Array(BYTES)), peer.read(BYTES)]);
  for (let lanes = 1; lanes <= 2; lanes++) {
    while (offers < lanes) await move(); // another lane is due after a second
    await until(() => upgrade.session.lane !== undefined);
    assert.equal(open, 1);
    upgrade.session.lane!.close();
    await until(() => upgrade.session.lane === undefined);
  }
  await peer.session.detach();
});

Deno.test("LaneUpgrade asks for a lane after 256 exchanges of a few bytes, and pauses if it fails", async () => {
  const [mine, peers] = memoryStream(), peer = new SessionEnd(peers, {});
  let offers = 0;
  using upgrade = new LaneUpgrade({
    stream: mine,
    connectionClosed: new Promise(() => {}),
    peerKey: () => Promise.resolve("ab".repeat(32)),
    openLane() {
      offers++;
      return Promise.reject(new Error("no stream can be opened"));
    },
    onLane() {},
    resume: () => Promise.reject(new Error("the connection stays")),
    signal: new AbortController().signal,
  });
  const writer = upgrade.session.writable.getWriter();
  const reader = upgrade.session.readable.getReader();
  const ask = () => Promise.all([writer.write(new Uint8Array(1)), peer.read(1)]);
  const exchange = async (count: number) => {
    for (let i = 0; i < count; i++) {
      await ask();
      await Promise.all([peer.write(1), reader.read()]);
    }
  };
  await exchange(EXCHANGES - 1);
  for (let i = 0; i < EXCHANGES; i++) await ask(); // they are not answered
  assert.equal(offers, 0);
  await exchange(1);
  await until(() => offers === 1);
  await exchange(2 * EXCHANGES); // another try is due after half a minute
  assert.equal(offers, 1);
  await peer.session.detach();
});
