/** How a session ends: in order, because one end wants it, or because something is lost. */

import assert from "node:assert/strict";
import { StreamError } from "../streams/duplex.ts";
import { CloseCode } from "./close_codes.ts";
import { INITIAL_WINDOW_BYTES } from "./credit.ts";
import {
  memoryLane,
  memoryStream,
  RawHome,
  RawPeer,
  turns,
  until,
} from "../../tests/memory_carriers.ts";
import { attachLane, makePair, SessionEnd } from "../../tests/session_pair.ts";

const LIMIT = INITIAL_WINDOW_BYTES;
const QUICK = { lookMs: 2, stallMs: 20 };

type Pair = [SessionEnd, SessionEnd];

/** A session whose peer speaks in frames. */
function makeSide(): { side: SessionEnd; home: RawHome } {
  const [mine, peers] = memoryStream();
  return { side: new SessionEnd(mine, QUICK), home: new RawHome(peers) };
}

/** What a promise comes to: "pending" if it has not settled soon. */
async function outcome(promise: Promise<unknown>): Promise<string> {
  const settled = promise.then(() => "resolved", (error) => {
    assert(error instanceof StreamError, `${error}`);
    return error.kind;
  });
  return await Promise.race([settled, turns(10).then(() => "pending")]);
}

/** Both ends have sent all, and end in order. */
async function endInOrder(pair: Pair): Promise<void> {
  const [a, b] = pair;
  await Promise.all([a.writer.close(), b.writer.close(), a.read(), b.read()]);
  await detachInOrder(pair);
}

/** Each end detaches, and the other sees the end of the stream, not a reset. */
async function detachInOrder([a, b]: Pair): Promise<void> {
  await Promise.all([a.session.detach(), b.session.detach()]);
  assert.deepEqual([a.home.out.hasEnded, b.home.out.hasEnded], [true, true]);
}

Deno.test("Session: END is acknowledged, and the stream ends in order, at home and on a lane", async () => {
  for (const hasLane of [false, true]) {
    const pair = makePair(QUICK), [a, b] = pair;
    const lanes = hasLane ? attachLane(pair) : [];
    const [sent] = await Promise.all([a.write(100_000), b.read(100_000), b.write(10), a.read(10)]);
    assert.equal(sent, undefined);
    await endInOrder(pair);
    assert.deepEqual(lanes.map(({ isClosed }) => isClosed), lanes.map(() => true));
    assert.deepEqual([a.lost, b.lost], [[], []]);
  }
});

Deno.test("Session does not blame a lane that the peer closes because it is through", async () => {
  const pair = makePair(QUICK), [a, b] = pair;
  attachLane(pair);
  await Promise.all([a.writer.close(), b.writer.close(), a.read(), b.read()]);
  await a.session.detach();
  await until(() => b.session.lane === undefined);
  await turns(10); // what is sent at home after that has come
  assert.deepEqual(b.lost, []);
  await b.session.detach();
});

Deno.test("Session: an end that was not sent is not delivered when the connection is closed with 0", async () => {
  const { side, home } = makeSide();
  await home.send((f) => {
    f.start(1);
    f.end(0);
  });
  await side.read();
  side.home.out.isHeld = true;
  await side.write(200_000); // of which a part is under way
  const closing = side.writer.close();
  await turns(5);
  side.closeConnection(new StreamError("closed", "the peer closed the connection"));
  assert.equal(await outcome(closing), "lost");
  await side.session.detach();
});

Deno.test("Session: close() waits until data and end are acknowledged", async () => {
  const { side, home } = makeSide();
  await side.write(10);
  const closing = side.writer.close();
  await home.expect("end");
  await home.send((f) => {
    f.start(1);
    f.ack(10, LIMIT); // the data alone
  });
  assert.equal(await outcome(closing), "pending");
  assert(side.session.isInFlight);
  await home.send((f) => f.ack(11, LIMIT));
  await closing;
  assert(!side.session.isInFlight);
  await side.session.detach();
});

Deno.test("Session: the other end gets a half-closed session's answer", async () => {
  const pair = makePair(), [a, b] = pair;
  await a.write(5);
  await a.writer.close();
  assert.equal(await b.read(), 5);
  await b.write(7);
  await b.writer.close();
  assert.equal(await a.read(), 7);
  await detachInOrder(pair);
});

Deno.test("Session that is through sends its last acknowledgement before the end", async () => {
  const { side, home } = makeSide();
  const [lane, peersLane] = memoryLane();
  side.session.attachLane(lane);
  const raw = RawPeer.onLane(peersLane);
  const closing = side.writer.close();
  await raw.expect("end");
  await raw.send((f) => {
    f.start(1);
    f.ack(1, LIMIT);
    f.data(0, new Uint8Array(3));
    f.end(3);
  });
  await closing;
  assert.equal(await side.read(), 3);
  await side.session.detach();
  await until(() => home.end !== undefined);
  assert.equal(home.end!.error, undefined);
  assert.deepEqual(home.frames.filter(([type]) => type === "ack").at(-1)?.[1], 4);
});

/** When the reader gives up, beside a change of carrier. */
const moments: Record<string, (pair: Pair, cancel: () => void) => Promise<void>> = {
  "at home": async (_, cancel) => await turns(5).then(cancel),
  "before anything has come": (_, cancel) => Promise.resolve(cancel()),
  "on a lane": async (pair, cancel) => {
    attachLane(pair);
    await turns(20);
    cancel();
  },
  "before a change": async (pair, cancel) => {
    await turns(5);
    cancel();
    attachLane(pair);
  },
  "at a change": async (pair, cancel) => {
    const [a, b] = pair, ends = memoryLane();
    await turns(5);
    a.session.attachLane(ends[0]);
    cancel();
    await turns(3);
    b.session.attachLane(ends[1]);
  },
  "after a change": (pair, cancel) => {
    attachLane(pair);
    return Promise.resolve(cancel());
  },
  "on a lane that is cut": async (pair, cancel) => {
    const [lane] = attachLane(pair);
    await turns(5);
    cancel();
    lane.close();
  },
  "on a lane that says nothing": async (pair, cancel) => {
    const [, { out }] = attachLane(pair);
    await turns(5);
    out.silence(); // the stop is lost
    cancel();
  },
  "on a lane that was cut": async (pair, cancel) => {
    const [lane] = attachLane(pair);
    await turns(5);
    lane.close();
    cancel();
  },
};

for (const [name, act] of Object.entries(moments)) {
  Deno.test(`Session: a reader that gives up ${name} stops the writer, and nothing else`, async () => {
    const pair = makePair(QUICK), [a, b] = pair;
    const writing = a.write(3 << 20).then(() => {}, (error) => error);
    let cancelled: Promise<void> | undefined;
    await act(pair, () => cancelled = b.reader.cancel());
    await cancelled;
    const error = await writing;
    assert(error instanceof StreamError && error.kind === "reset", `${error}`);
    assert.deepEqual(await a.writeError, error);
    const received = b.session.received;
    await Promise.all([b.write(100_000), a.read(100_000)]);
    await b.writer.close();
    await a.read();
    await until(() => !a.session.isInFlight); // its end was sent, and acknowledged
    assert(b.session.received - received === 0, "what is dropped is counted");
    await detachInOrder(pair);
  });
}

Deno.test("Session: a writer that writes nothing is told, too, that its reader gives up", async () => {
  const pair = makePair(), [a, b] = pair;
  await Promise.all([a.write(10), b.read(10)]);
  await b.reader.cancel();
  const error = await a.writeError;
  assert(error instanceof StreamError && error.kind === "reset", `${error}`);
  await Promise.all([b.writer.close(), a.read()]);
  await detachInOrder(pair);
});

Deno.test("Session: a reader that gives up while the writer closes lets it close", async () => {
  const pair = makePair(), [a, b] = pair;
  await a.write(LIMIT);
  const closing = a.writer.close();
  await b.reader.cancel();
  await closing;
  await Promise.all([b.writer.close(), a.read()]);
  await detachInOrder(pair);
});

Deno.test("Session: a reader that gives up after the end says nothing of it", async () => {
  const { side, home } = makeSide();
  await home.send((f) => {
    f.start(1);
    f.data(0, new Uint8Array(3));
    f.end(3);
  });
  await home.expect("ack");
  await side.reader.cancel();
  await turns(5);
  assert.deepEqual(home.frames, []);
  await side.session.detach();
});

for (const code of Object.values(CloseCode)) {
  Deno.test(`Session: abort() with code ${code} reaches the other end, and its lane is closed`, async () => {
    for (const hasLane of [false, true]) {
      const pair = makePair(QUICK), [a, b] = pair;
      const lanes = hasLane ? attachLane(pair) : [];
      await Promise.all([a.write(10), b.read(10)]);
      const reading = b.read().then(() => undefined, (error) => error);
      const reason = new StreamError("refused", "a reason", { code });
      await a.session.abort(reason);
      assert.equal(await a.writeError, reason);
      await assert.rejects(a.read(), reason);
      for (const error of [await reading, await b.writeError]) {
        assert(error instanceof StreamError);
        if (code === CloseCode.DONE) assert.equal(error.kind, "reset");
        else assert.deepEqual([error.kind, error.code], ["refused", code]);
      }
      assert(lanes.every(({ isClosed }) => isClosed));
      await turns(5);
      assert.deepEqual([a.lost, b.lost], [[], []]); // which says nothing against the lane
      await Promise.all([a.session.detach(), b.session.detach()]);
    }
  });
}

Deno.test("Session: an aborted writer aborts the session with the code of the reason", async () => {
  const [a, b] = makePair();
  const reason = new StreamError("lost", "gone", { code: CloseCode.BROKEN_OFF });
  await a.writer.abort(reason);
  const error = await b.writeError;
  assert(error instanceof StreamError && error.code === CloseCode.BROKEN_OFF);
  assert.match(error.message, /the session broke off \(code 6\)/);
  await Promise.all([a.session.detach(), b.session.detach()]);
});

Deno.test("Session: detach() before the end resets the stream, also while a lane is made", async () => {
  const { side, home } = makeSide();
  await side.write(10);
  const [late] = memoryLane();
  await side.session.detach();
  await until(() => home.end !== undefined);
  const { error } = home.end!;
  assert(error instanceof StreamError && error.kind === "reset");
  side.session.attachLane(late);
  assert(late.isClosed);
});

Deno.test("Session closes a lane that comes after the session has failed, or is through", async () => {
  const [a, b] = makePair();
  const [first, second] = memoryLane();
  await a.session.abort(new StreamError("reset", "enough"));
  a.session.attachLane(first);
  assert(first.isClosed);
  await b.writeError;
  b.session.attachLane(second);
  assert(second.isClosed);
  const pair = makePair();
  await endInOrder(pair);
  const [third] = memoryLane();
  pair[0].session.attachLane(third);
  assert(third.isClosed);
});

/** How far the writing direction of a session is, and what the peer has acknowledged of it. */
const sendStates = {
  "open": { written: 10, isClosing: false, acknowledged: 0 },
  "open, all acknowledged": { written: 10, isClosing: false, acknowledged: 10 },
  "ended": { written: 10, isClosing: true, acknowledged: 0 },
  "ended, the data acknowledged": { written: 10, isClosing: true, acknowledged: 10 },
  "done": { written: 10, isClosing: true, acknowledged: 11 },
} as const;

/** What ends the session from outside. */
const endings: Record<string, (side: SessionEnd, home: RawHome) => unknown> = {
  "the connection is lost": (side) => {
    const error = new StreamError("lost", "nothing comes");
    side.home.in.fail(error);
    side.home.out.fail(error, error);
    side.closeConnection(error);
  },
  "the connection is closed with 0": (side) => {
    const error = new StreamError("closed", "the peer closed the connection");
    side.home.in.fail(error);
    side.home.out.fail(error, error);
    side.closeConnection(error);
  },
  "home is finished": (_, home) => home.finish(),
  "home is reset": (_, home) => home.reset(0n),
};

for (const [state, { written, isClosing, acknowledged }] of Object.entries(sendStates)) {
  for (const hasPeerEnded of [false, true]) {
    for (const [ending, end] of Object.entries(endings)) {
      for (const hasLane of [false, true]) {
        const when = `${state}, ${hasPeerEnded ? "the peer has ended" : "the peer has not"}`;
        const where = hasLane ? "on a lane" : "at home";
        Deno.test(`Session: ${ending} (${when}, ${where}): only what is acknowledged counts`, async () => {
          const { side, home } = makeSide();
          let raw: RawPeer = home;
          if (hasLane) {
            const [lane, peers] = memoryLane();
            side.session.attachLane(lane);
            raw = RawPeer.onLane(peers);
          }
          await side.write(written);
          const closing = isClosing ? side.writer.close() : undefined;
          closing?.catch(() => {}); // looked at below
          await raw.expect(isClosing ? "end" : "data");
          await raw.send((f) => {
            f.start(1);
            f.ack(acknowledged, LIMIT);
            f.data(0, new Uint8Array(3));
            if (hasPeerEnded) f.end(3);
          });
          await until(() => side.session.received === 3);
          await end(side, home);
          const isDone = acknowledged === 11;
          const isInOrder = ending.endsWith("with 0") && hasPeerEnded && isClosing;
          const isLoss = ending.startsWith("the connection");
          if (closing) {
            const expected = isDone || isInOrder ? "resolved" : isLoss ? "lost" : "reset";
            assert.equal(await outcome(closing), expected);
          } else {
            assert.equal(await outcome(side.writer.closed), isLoss ? "lost" : "reset");
            assert.notEqual(await outcome(side.write(1)), "resolved");
          }
          // What has come can be read in any case.
          assert.equal(await side.read(3), 3);
          const expected = hasPeerEnded ? "resolved" : isLoss ? "lost" : "reset";
          assert.equal(await outcome(side.read()), expected);
          await side.session.detach();
          assert.equal(side.session.lane, undefined);
        });
      }
    }
  }
}

Deno.test("Session: a peer that stops reading may have said before that it is through", async () => {
  const { side, home } = makeSide();
  const [lane, peersLane] = memoryLane();
  side.session.attachLane(lane);
  const raw = RawPeer.onLane(peersLane);
  await side.write(10);
  const closing = side.writer.close();
  await raw.expect("end");
  await raw.send((f) => {
    f.start(1);
    f.end(0);
  });
  await raw.expect("ack");
  side.home.in.isHeld = true; // it is on its way
  await home.send((f) => {
    f.start(2);
    f.ack(11, LIMIT);
  });
  await home.finish();
  await home.stop();
  peersLane.close(); // so that the session writes at home, in vain
  await turns(20);
  assert.equal(await outcome(closing), "pending");
  side.home.in.release();
  assert.equal(await outcome(closing), "resolved");
  assert.equal(await side.read(), 0);
  await side.session.detach();
});

Deno.test("Session: a peer that stops reading, and says nothing, has given up", async () => {
  const { side, home } = makeSide();
  await home.stop();
  await side.write(10);
  const error = await side.writeError;
  assert(error instanceof StreamError && error.kind === "reset", `${error}`);
  await side.session.detach();
});

Deno.test("Session: what a proxy delivers counts once it is sent at home and the peer has ended", async () => {
  const { side, home } = makeSide();
  side.session.deliveredByProxy();
  await side.write(10);
  const closing = side.writer.close();
  await home.expect("end");
  assert.equal(await outcome(closing), "pending");
  await home.send((f) => {
    f.start(1);
    f.end(0);
  });
  assert.equal(await outcome(closing), "resolved");
  await side.session.detach();
  await until(() => home.end !== undefined);
  assert.equal(home.end!.error, undefined); // in order
  assert.deepEqual(home.frames.at(-1)?.slice(0, 2), ["ack", 1]);
});

Deno.test("Session: what a proxy delivers counts as soon as it is sent, if the peer has ended before", async () => {
  const { side, home } = makeSide();
  side.session.deliveredByProxy();
  await home.send((f) => {
    f.start(1);
    f.end(0);
  });
  assert.equal(await side.read(), 0);
  await side.write(10);
  assert.equal(await outcome(side.writer.close()), "resolved");
  await side.session.detach();
});

Deno.test("Session: without a proxy, or on a lane, nothing counts before it is acknowledged", async () => {
  for (const hasLane of [false, true]) {
    const { side, home } = makeSide();
    let raw: RawPeer = home;
    if (hasLane) {
      side.session.deliveredByProxy();
      const [lane, peers] = memoryLane();
      side.session.attachLane(lane);
      raw = RawPeer.onLane(peers);
    }
    await side.write(10);
    const closing = side.writer.close();
    await raw.expect("end");
    await raw.send((f) => {
      f.start(1);
      f.end(0);
    });
    await side.read();
    assert.equal(await outcome(closing), "pending");
    await raw.send((f) => f.ack(11, LIMIT));
    await closing;
    await side.session.detach();
  }
});

Deno.test("Session: what a proxy delivers does not count while its write has not ended", async () => {
  const { side, home } = makeSide();
  side.session.deliveredByProxy();
  await home.send((f) => {
    f.start(1);
    f.ack(0, 1 << 20);
    f.end(0);
  });
  await side.read();
  side.home.out.isHeld = true; // the proxy reads nothing, so what fits is under way
  const writing = side.write(200_000).then(() => side.writer.close());
  await until(() => side.home.out.bytes > 50_000);
  assert.equal(await outcome(writing), "pending");
  side.home.out.release();
  await writing;
  assert.equal(side.home.out.bytes > 200_000, true);
  await side.session.detach();
});
