/** When a session uses a lane, gives it up, or leaves it alone. */

import assert from "node:assert/strict";
import { StreamError } from "../streams/duplex.ts";
import { INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES } from "./credit.ts";
import {
  type MemoryLane,
  memoryLane,
  memoryStream,
  RawHome,
  RawPeer,
  turns,
  until,
} from "../../tests/memory_carriers.ts";
import type { SessionOptions } from "./session.ts";
import { attachLane, makePair, SessionEnd } from "../../tests/session_pair.ts";

const LIMIT = INITIAL_WINDOW_BYTES;
const QUICK = { lookMs: 2, stallMs: 20 };
/** Long enough for {@linkcode QUICK} to give a lane up several times. */
const LONG_MS = 150;

/** A session on a lane, whose peer speaks in frames. */
function makeSide(
  options: SessionOptions = QUICK,
): { side: SessionEnd; home: RawHome; lane: RawPeer } {
  const [mine, peers] = memoryStream();
  const side = new SessionEnd(mine, options);
  return { side, home: new RawHome(peers), lane: attachRaw(side) };
}

function attachRaw(side: SessionEnd): RawPeer {
  const [lane, peers] = memoryLane();
  side.session.attachLane(lane);
  return RawPeer.onLane(peers);
}

async function pause(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, LONG_MS));
}

/** Answers probes. */
function echoOn(peer: RawPeer): void {
  peer.onProbe = (id) => peer.send((f) => f.echo(id));
}

async function endAll(...ends: SessionEnd[]): Promise<void> {
  await Promise.all(ends.map(({ session }) => session.detach()));
}

Deno.test("Session goes on by a lane from where it was, and tells what it has received", async () => {
  const [mine, peers] = memoryStream(), home = new RawHome(peers);
  const side = new SessionEnd(mine, QUICK);
  await side.write(100);
  await home.expect("data");
  await home.send((f) => {
    f.start(1);
    f.ack(60, LIMIT);
    f.data(0, new Uint8Array(5));
  });
  await until(() => side.session.received === 5);
  const lane = attachRaw(side);
  await lane.expect("data");
  // It is not known that the last 40 bytes have come at home.
  await side.write(7);
  await until(() => lane.frames.length > 0);
  assert.deepEqual(await lane.expect("data"), ["data", 100, 7]);
  await endAll(side);
});

Deno.test("Session begins on a lane with its generation, and repeats acknowledgement and stop", async () => {
  const [mine, peers] = memoryStream(), home = new RawHome(peers);
  const side = new SessionEnd(mine, {}); // which sends no probes meanwhile
  await side.write(1);
  await home.send((f) => {
    f.start(1);
    f.data(0, new Uint8Array(5));
  });
  await until(() => side.session.received === 5);
  await side.reader.cancel();
  await home.expect("stop");
  for (const generation of [2, 3]) {
    const lane = attachRaw(side);
    await until(() => lane.frames.length >= 4);
    assert.deepEqual(lane.frames, [
      ["start", generation],
      ["ack", 5, LIMIT],
      ["stop"],
      ["data", 0, 1],
    ]);
  }
  await endAll(side);
});

Deno.test("Session gives up a lane that is silent while the peer answers at home", async () => {
  const { side, home, lane } = makeSide();
  echoOn(home);
  await side.write(10);
  await lane.expect("data");
  await until(() => side.session.lane === undefined);
  await home.expect("start"); // which tells the peer
  assert.deepEqual(await home.expect("data"), ["data", 0, 10]);
  await home.send((f) => f.probe(1)); // the session goes on
  await until(() => side.lost.length === 1);
  assert.match(side.lost[0]!.message, /it is silent/);
  await until(() => lane.end !== undefined);
  await endAll(side);
});

Deno.test("Session gives up a silent lane at once if this host has lost its address, and no other lane", async () => {
  const [mine] = memoryStream(), side = new SessionEnd(mine, { lookMs: 2, stallMs: 60_000 });
  const [lane, peers] = memoryLane(), peer = RawPeer.onLane(peers);
  side.session.attachLane(lane);
  await peer.send((f) => f.start(1));
  await pause();
  assert(side.session.lane); // silent, but the host has not moved
  lane.hasMoved = () => true; // nothing is in flight, and nothing is answered at home
  await until(() => side.session.lane === undefined);
  await endAll(side);
});

Deno.test("Session by itself gives up a silent lane after 2 s, and no later than promised", async () => {
  const { side, home } = makeSide({});
  const given = Promise.withResolvers<void>(), since = performance.now();
  home.onProbe = async (id) => {
    await home.send((f) => f.echo(id));
    while (side.session.lane !== undefined) await new Promise((next) => setTimeout(next, 10));
    given.resolve();
  };
  await side.write(10);
  await given.promise;
  const took = performance.now() - since;
  assert(took >= 2_000 && took < 8_000, `${took} ms`); // a look each half second, and 2 s
  await endAll(side);
});

Deno.test("Session gives up a lane on which an acknowledgement alone may be lost", async () => {
  const { side, home, lane } = makeSide();
  for (const peer of [home, lane]) echoOn(peer);
  await until(() => lane.probes > 0); // since it was begun
  await turns(20);
  lane.onProbe = undefined;
  await home.send((f) => {
    f.start(1);
    f.data(0, new Uint8Array(10));
  });
  await lane.expect("ack"); // of which the peer says nothing
  await until(() => side.session.lane === undefined);
  assert.deepEqual((await home.expect("ack"))[1], 10);
  await endAll(side);
});

Deno.test("Session leaves a lane alone if the peer answers nowhere: its process stands still", async () => {
  const { side, home, lane } = makeSide();
  await side.write(10);
  await lane.expect("data");
  await lane.expect("probe");
  await home.expect("probe");
  await pause();
  assert(side.session.lane);
  assert.deepEqual([home.frames, lane.frames], [[], []]); // one probe each is enough
  // It goes on, and is heard at home first.
  await home.send((f) => f.echo(1));
  await lane.send((f) => f.echo(1));
  echoOn(home);
  echoOn(lane);
  await pause();
  assert(side.session.lane);
  assert.deepEqual(side.lost, []);
  await endAll(side);
});

Deno.test("Session leaves a second lane alone, too, although the peer has answered for the first", async () => {
  const { side, home, lane } = makeSide();
  for (const peer of [home, lane]) echoOn(peer);
  await side.write(10);
  await until(() => lane.probes >= 5 && home.probes >= 5);
  home.onProbe = undefined;
  const second = attachRaw(side);
  await second.expect("probe");
  await pause();
  assert(side.session.lane);
  await endAll(side);
});

Deno.test("Session leaves a lane alone if the peer answers by it, however late", async () => {
  const { side, home, lane } = makeSide({ lookMs: 2, stallMs: 1_000 });
  echoOn(home);
  lane.onProbe = async (id) => {
    await turns(20);
    await lane.send((f) => f.echo(id));
  };
  await side.write(10);
  await until(() => lane.probes > 5);
  assert(side.session.lane);
  await endAll(side);
});

Deno.test("Session does not probe a lane when nothing is missing on it", async () => {
  const { side, home, lane } = makeSide();
  await side.write(10);
  await lane.expect("data");
  await lane.send((f) => {
    f.start(1);
    f.ack(10, LIMIT);
  });
  await turns(5);
  const before = [home.probes, lane.probes];
  await pause();
  assert.deepEqual([home.probes, lane.probes], before);
  assert(side.session.lane);
  await endAll(side);
});

Deno.test("Session gives a lane up when the peer begins again at home", async () => {
  const { side, home, lane } = makeSide();
  await lane.send((f) => f.start(1));
  await turns(5);
  assert(side.session.lane);
  await home.send((f) => f.start(2));
  await until(() => side.session.lane === undefined);
  assert.match(side.lost.join(), /the peer has given it up/);
  await home.expect("start");
  await endAll(side);
});

Deno.test("Session keeps a new lane if the peer's word that it gave up the lane before comes late", async () => {
  const { side, home, lane: first } = makeSide();
  await first.send((f) => f.start(1));
  await turns(5);
  const lane = attachRaw(side);
  await home.send((f) => f.start(2));
  await turns(5);
  assert(side.session.lane);
  await lane.send((f) => {
    f.start(3);
    f.data(0, Uint8Array.of(1));
  });
  await until(() => side.session.received === 1);
  assert(side.session.lane);
  assert.deepEqual(side.lost, []);
  await endAll(side);
});

Deno.test("Session gives a lane up on which the peer's beginning was lost", async () => {
  const { side, home, lane: first } = makeSide();
  await first.send((f) => f.start(1));
  await turns(5);
  attachRaw(side);
  await home.send((f) => f.start(3)); // 2 was on the new lane
  await until(() => side.session.lane === undefined);
  assert.match(side.lost.join(), /the peer has given it up/);
  await endAll(side);
});

Deno.test("Session reports a lane that is lost after all of the peer's data has come", async () => {
  const { side, home, lane } = makeSide();
  await lane.send((f) => {
    f.start(1);
    f.end(0); // what this end sends goes on
  });
  await turns(5);
  side.session.lane!.close();
  await until(() => side.session.lane === undefined);
  await home.send((f) => f.start(2));
  await until(() => side.lost.length === 1);
  await endAll(side);
});

Deno.test("Session does not report a lane that the peer closes when it is through", async () => {
  const { side, home, lane } = makeSide();
  await lane.send((f) => {
    f.start(1);
    f.end(0);
  });
  await side.writer.write(Uint8Array.of(1));
  const closing = side.writer.close();
  await lane.expect("end");
  side.session.lane!.close();
  await until(() => side.session.lane === undefined);
  await home.send((f) => {
    f.start(2);
    f.ack(2, LIMIT);
  });
  await closing;
  await turns(5);
  assert.deepEqual(side.lost, []);
  await endAll(side);
});

Deno.test("Session tells the peer at home that it gave up a lane, even if it never got to use it", async () => {
  const [mine, peersHome] = memoryStream(), home = new RawHome(peersHome);
  const side = new SessionEnd(mine, QUICK);
  await side.write(5);
  await home.expect("data");
  side.home.out.isHeld = true;
  const [lane, peers] = memoryLane();
  await side.write(200_000); // of which a part fits, so that a write at home is under way
  await turns(5);
  side.session.attachLane(lane);
  peers.close();
  await until(() => side.session.lane === undefined);
  side.home.out.release();
  assert.deepEqual(await home.expect("start"), ["start", 2]);
  assert.equal(lane.out.bytes, 0);
  await endAll(side);
});

Deno.test("Session closes a lane when there is another", async () => {
  const pair = makePair(QUICK), [a, b] = pair;
  const lanes = [attachLane(pair), attachLane(pair), attachLane(pair)] as const;
  await Promise.all([a.write(100_000), b.read(100_000)]);
  assert.deepEqual(lanes.map(([{ isClosed }]) => isClosed), [true, true, false]);
  assert.equal(a.session.lane, lanes[2][0]);
  await endAll(a, b);
});

Deno.test("Session closes a lane whose end comes, and reports it once the peer is heard at home", async () => {
  const { side, home, lane } = makeSide();
  await lane.send((f) => f.start(1));
  side.session.lane!.close();
  await until(() => side.session.lane === undefined);
  await turns(10);
  assert.deepEqual(side.lost, []); // the peer may be about to end the session
  await home.send((f) => f.start(2));
  await until(() => side.lost.length === 1);
  await endAll(side);
});

/** Lanes that are there for one end only, or good for one direction. */
const halfLanes: Record<
  string,
  (a: SessionEnd, b: SessionEnd, lane: [MemoryLane, MemoryLane]) => void
> = {
  "attached by the one that sends": (a, _, [lane]) => a.session.attachLane(lane),
  "attached by the one that receives": (_, b, [, lane]) => b.session.attachLane(lane),
  "silent from the one that sends": (a, b, [x, y]) => {
    x.out.silence();
    a.session.attachLane(x);
    b.session.attachLane(y);
  },
  "silent from the one that receives": (a, b, [x, y]) => {
    y.out.silence();
    a.session.attachLane(x);
    b.session.attachLane(y);
  },
  "cut from the one that sends": (a, b, [x, y]) => {
    x.out.fail(new Error("it is cut"), new Error("it is cut"));
    a.session.attachLane(x);
    b.session.attachLane(y);
  },
  "cut from the one that receives, which is not told": (a, b, [x, y]) => {
    y.out.fail(new Error("it is cut"));
    a.session.attachLane(x);
    b.session.attachLane(y);
  },
};

for (const [name, attach] of Object.entries(halfLanes)) {
  Deno.test(`Session: a lane that is ${name}: the session goes on at home`, async () => {
    const [a, b] = makePair(QUICK);
    await Promise.all([a.write(100_000), b.read(100_000)]);
    attach(a, b, memoryLane());
    await Promise.all([a.write(1_000_000), b.read(1_000_000)]);
    await Promise.all([a.writer.close(), b.read()]);
    await Promise.all([b.write(100_000), a.read(100_000)]);
    await Promise.all([b.writer.close(), a.read()]);
    assert(!a.session.isInFlight && !b.session.isInFlight);
    await endAll(a, b);
    assert.deepEqual([a.home.out.hasEnded, b.home.out.hasEnded], [true, true]);
  });
}

Deno.test("Session: while readers stand still its memory is bounded, and its lane stays", async () => {
  const pair = makePair(QUICK), [a, b] = pair;
  attachLane(pair);
  const bytes = 20 << 20;
  const writing = [a.write(bytes), b.write(bytes)];
  await until(() => a.session.received === LIMIT && b.session.received === LIMIT);
  await pause();
  for (const { session } of pair) {
    assert.deepEqual([session.sent, session.received], [LIMIT, LIMIT]);
    assert(session.lane);
  }
  // So it is after the credit has grown.
  await Promise.all([b.read(bytes / 2), a.read(bytes / 2)]);
  await pause();
  for (const { session } of pair) {
    assert(session.received - bytes / 2 <= MAX_WINDOW_BYTES + (1 << 20));
    assert(session.sent - session.received <= MAX_WINDOW_BYTES);
    assert(session.lane);
  }
  await Promise.all([a.read(bytes / 2 - (1 << 20)), b.read(bytes / 2 - (1 << 20)), ...writing]);
  assert.deepEqual([a.lost, b.lost], [[], []]);
  await endAll(a, b);
});

Deno.test("Session: what a lane delivers late is dropped, once the session has gone on at home", async () => {
  const { side, home, lane } = makeSide();
  await lane.send((f) => {
    f.start(1);
    f.data(0, Uint8Array.of(1, 2));
  });
  await until(() => side.session.received === 2);
  side.home.in.isHeld = true;
  await home.send((f) => {
    f.start(2);
    f.data(1, Uint8Array.of(2, 3));
  });
  await lane.send((f) => f.data(2, Uint8Array.of(3))); // later, and faster
  await until(() => side.session.received === 3);
  side.home.in.release();
  await until(() => side.session.lane === undefined);
  await lane.send((f) => f.data(3, Uint8Array.of(9))).catch(() => {}); // it is closed
  await home.send((f) => f.end(3));
  assert.equal(await side.read(), 3);
  await endAll(side);
});

Deno.test("Session rests between writes at home while a lane is made, and not for ever", async () => {
  const pair = makePair(QUICK), [a, b] = pair;
  const made = Promise.withResolvers<void>();
  a.session.restUntil(made.promise);
  const reading = b.read();
  const before = performance.now();
  await a.write(10 * 32 * 1024); // 10 frames and a bit
  await until(() => a.home.out.bytes >= 10 * 32 * 1024);
  assert(performance.now() - before >= 10 * 9);
  made.resolve();
  await a.write(32 << 20);
  await a.writer.close();
  await reading;
  assert(performance.now() - before < 9_000); // and not 10 ms for each of 1024 frames
  await endAll(a, b);
});

/** When the connection is lost, in turns of the event loop after the lane was attached; before it if negative. */
for (const when of [-1, 0, 1, 2, 10]) {
  for (const isLaneGood of [true, false]) {
    const time = when < 0 ? "before" : `${when} turns after`;
    const how = `${time} a ${isLaneGood ? "good" : "dead"} lane is attached`;
    Deno.test(`Session whose connection is lost ${how} ends when its owner gives up`, async () => {
      const given = Promise.withResolvers<StreamError>();
      const [a, b] = makePair({ ...QUICK, onHomeLost: given.resolve });
      await a.write(50_000); // is on its way when the lane is attached
      const loss = new StreamError("lost", "nothing comes");
      const lose = () => [a, b].forEach((end) => end.closeConnection(loss));
      if (when < 0) lose();
      attachLane([a, b], isLaneGood ? {} : { fault: "silent", after: 1 });
      await turns(Math.max(when, 0));
      lose();
      const writing = a.write(2 * MAX_WINDOW_BYTES); // more than the peer grants
      const failed = assert.rejects(writing, loss);
      a.session.fail(await given.promise);
      await failed;
      assert.equal(await a.writeError, loss);
      assert.equal(a.session.lane, undefined);
      await endAll(a, b);
    });
  }
}
