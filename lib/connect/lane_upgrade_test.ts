import assert from "node:assert/strict";
import { answerLane } from "../lane/negotiation.ts";
import { LaneUpgrade } from "./lane_upgrade.ts";
import { memoryStream, until } from "../../tests/memory_carriers.ts";
import { pipe } from "../../tests/pipe.ts";
import { SessionEnd } from "../../tests/session_pair.ts";

const ADDRESSES = { local: ["127.0.0.1"], observedRemote: "127.0.0.1" };
const BYTES = 300_000;

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
