/** Small messages, as git-annex exchanges them once per file: none waits, and each costs one write. */

import assert from "node:assert/strict";
import { StreamError } from "../streams/duplex.ts";
import { INITIAL_WINDOW_BYTES } from "./credit.ts";
import {
  type MemoryLane,
  memoryStream,
  RawHome,
  turns,
  until,
} from "../../tests/memory_carriers.ts";
import { attachLane, makePair, SessionEnd } from "../../tests/session_pair.ts";

const MESSAGES = 50;
const MESSAGE_BYTES = 200;
/** Far longer than a pause, and shorter than all of them together. */
const PATIENT = { ackDelayMs: 400 };

type Pair = [SessionEnd, SessionEnd];

/** Both ends ask and answer in turn. @param think How long each takes. */
async function pingPong([a, b]: Pair, count: number, think: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < count; i++) {
    for (const [from, to] of [[a, b], [b, a]] as const) {
      await think();
      await from.write(MESSAGE_BYTES);
      await to.read(MESSAGE_BYTES);
    }
  }
}

const thinking: Record<string, () => Promise<unknown>> = {
  "without a pause": () => Promise.resolve(),
  "with pauses": () => new Promise((resolve) => setTimeout(resolve, 8)),
};

for (const [name, think] of Object.entries(thinking)) {
  for (const hasLane of [false, true]) {
    const where = hasLane ? "on a lane" : "at home";
    Deno.test(`Session: ${MESSAGES} messages each way ${where}, ${name}: one write for each`, async () => {
      const pair = makePair(PATIENT), lanes: MemoryLane[] = [];
      await pingPong(pair, 1, think);
      if (hasLane) {
        lanes.push(...attachLane(pair));
        await turns(5);
      }
      const homes = pair.map(({ home }) => home.out.writes);
      const used = hasLane ? lanes : pair.map(({ home }) => home);
      const before = used.map(({ out }) => out.writes);
      await pingPong(pair, MESSAGES, think);
      assert.deepEqual(used.map(({ out }, i) => out.writes - before[i]!), [MESSAGES, MESSAGES]);
      if (hasLane) assert.deepEqual(pair.map(({ home }) => home.out.writes), homes);
      const overhead = used[0]!.out.bytes / used[0]!.out.writes - MESSAGE_BYTES;
      assert(overhead < 40, `${overhead} bytes for each`);
      await Promise.all(pair.map(({ session }) => session.detach()));
    });
  }
}

Deno.test("Session acknowledges a message that is not answered, once, after a quiet moment", async () => {
  const pair = makePair(), [a, b] = pair;
  await pingPong(pair, 1, () => Promise.resolve());
  const before = b.home.out.writes, since = performance.now();
  await a.write(MESSAGE_BYTES);
  await b.read(MESSAGE_BYTES);
  await until(() => !a.session.isInFlight);
  assert(performance.now() - since >= 45); // timers may be a little early
  await new Promise((resolve) => setTimeout(resolve, 120));
  assert.equal(b.home.out.writes - before, 1);
  await Promise.all(pair.map(({ session }) => session.detach()));
});

Deno.test("Session acknowledges also while messages come all the time, but not each", async () => {
  const { side, home } = makeRawSide();
  await home.send((f) => f.start(1));
  const acks = () => home.frames.filter(([type]) => type === "ack");
  for (let sent = 0; acks().length < 3;) {
    // Several at once, since on a busy machine each turn may take as long as an acknowledgement waits.
    const messages = Array.from(
      { length: 10 },
      () => home.send((f) => f.data(sent++, new Uint8Array(1))),
    );
    await Promise.all(messages);
    await turns(5);
  }
  const told = acks().map(([, received]) => received!);
  assert(told[1]! - told[0]! > 1 && told[2]! - told[1]! > 1, `${told}`);
  await side.session.detach();
});

Deno.test("Session acknowledges bulk at once, every 64 KiB of the first window", async () => {
  const { side, home } = makeRawSide();
  await home.send((f) => f.start(1));
  for (let at = 0; at < INITIAL_WINDOW_BYTES; at += 65_536) {
    await home.send((f) => f.data(at, new Uint8Array(65_535)));
    await turns(5);
    assert(!home.frames.some(([type]) => type === "ack"));
    await home.send((f) => f.data(at + 65_535, new Uint8Array(1)));
    await turns(5);
    assert.equal((await home.expect("ack"))[1], at + 65_536);
  }
  await side.session.detach();
});

function makeRawSide(): { side: SessionEnd; home: RawHome } {
  const [mine, peers] = memoryStream();
  return { side: new SessionEnd(mine, {}), home: new RawHome(peers) };
}

/** What happens at the time a message is written. */
const beside: Record<string, (pair: Pair) => void> = {
  "nothing": () => {},
  "a lane is attached": (pair) => void attachLane(pair),
  "a lane is lost": (pair) => attachLane(pair)[0].close(),
  "a lane replaces another": (pair) => {
    attachLane(pair);
    attachLane(pair);
  },
  "the reader is busy": ([, b]) => void b.read(1),
};

for (const [name, act] of Object.entries(beside)) {
  for (const isBefore of [true, false]) {
    for (const bytes of [1, 48 * 1024, 48 * 1024 + 1, 100_000]) {
      const title = `${bytes} bytes, ${isBefore ? "before" : "after"}: ${name}`;
      Deno.test(`Session holds no message back: ${title}`, async () => {
        const pair = makePair(), [a, b] = pair;
        await pingPong(pair, 1, () => Promise.resolve());
        const before = b.session.received;
        if (isBefore) {
          a.write(bytes).catch(() => {}); // it ends with the session
          act(pair);
        } else {
          act(pair);
          a.write(bytes).catch(() => {}); // it ends with the session
        }
        await turns(30); // no timer has to pass
        assert.equal(b.session.received - before, bytes);
        await Promise.all(
          pair.map(({ session }) => session.abort(new StreamError("reset", "over"))),
        );
        await Promise.all(pair.map(({ session }) => session.detach()));
      });
    }
  }
}

Deno.test("Session counts bytes once, however often they are sent", async () => {
  const pair = makePair({ lookMs: 2, stallMs: 20 }), [a, b] = pair;
  const reading = b.read(500_000), carriers = [a.home.out];
  for (let i = 0; i < 5; i++) {
    const [lane] = attachLane(pair);
    carriers.push(lane.out);
    await Promise.all([a.write(100_000), turns(i)]);
    if (i % 2 > 0) lane.close();
    else lane.out.silence();
  }
  await reading;
  assert.deepEqual([a.session.sent, b.session.received], [500_000, 500_000]);
  assert.deepEqual([a.session.received, b.session.sent], [0, 0]);
  assert(carriers.reduce((sum, { bytes }) => sum + bytes, 0) > 550_000); // some came twice
  await Promise.all(pair.map(({ session }) => session.detach()));
});

Deno.test("Session tells its owner of each chunk that it has taken, or given", async () => {
  let progress = 0;
  const [mine, peers] = memoryStream(), [other] = [new SessionEnd(peers, {})];
  const side = new SessionEnd(mine, { onProgress: () => void progress++ });
  await side.write(10);
  await side.write(INITIAL_WINDOW_BYTES / 2);
  assert.equal(progress, 2);
  await other.write(10);
  await side.read(10);
  assert.equal(progress, 3);
  await Promise.all([side.session.detach(), other.session.detach()]);
});
