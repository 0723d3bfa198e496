/** What a session does about a peer that breaks the protocol, or strains it. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { StreamError } from "../streams/duplex.ts";
import { CloseCode } from "./close_codes.ts";
import { INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES } from "./credit.ts";
import type { FrameWriter } from "./frames.ts";
import { Session } from "./session.ts";
import {
  memoryLane,
  memoryStream,
  RawHome,
  RawPeer,
  turns,
  until,
} from "../../tests/memory_carriers.ts";

const LIMIT = INITIAL_WINDOW_BYTES;
const never = new Promise<StreamError>(() => {});

/** A session whose peer speaks in frames, at home and on a lane. */
class Side {
  readonly session: Session;
  readonly home: RawHome;
  readonly lane: RawPeer;
  readonly ends = { home: memoryStream(), lane: memoryLane() };
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  /** Resolves with the error with which the session ends. */
  readonly failed: Promise<unknown>;

  constructor() {
    this.session = new Session(this.ends.home[0], never);
    this.session.attachLane(this.ends.lane[0]);
    this.home = new RawHome(this.ends.home[1]);
    this.lane = RawPeer.onLane(this.ends.lane[1]);
    this.#writer = this.session.writable.getWriter();
    this.failed = this.#writer.closed.then(() => undefined, (error) => error);
  }

  async write(bytes: number): Promise<void> {
    await this.#writer.write(new Uint8Array(bytes));
  }

  async close(): Promise<void> {
    await this.#writer.close().catch(async (error) => {
      await this.#writer.closed; // rejects with the cause, if the session failed just before
      throw error;
    });
  }

  /** Reads so many bytes, or to the end if there are fewer. */
  async read(bytes: number): Promise<number[]> {
    const reader = this.session.readable.getReader(), read: number[] = [];
    while (read.length < bytes) {
      const { value } = await reader.read();
      if (!value) break;
      for (const byte of value) read.push(byte);
    }
    reader.releaseLock();
    return read;
  }
}

/** Two sessions that are well, which nothing must disturb. */
async function assertCarries(sides: readonly [Session, Session]): Promise<void> {
  const [a, b] = sides, sent = new Uint8Array(100_000).fill(7);
  const writer = a.writable.getWriter();
  const sending = writer.write(sent).then(() => writer.close());
  let received = 0;
  for await (const piece of b.readable) received += piece.length;
  assert.equal(received, sent.length);
  await sending;
}

/** What breaks the protocol, as frames at home and on the lane. */
const breaches: Record<string, (side: Side) => Promise<unknown>> = {
  "data beyond what has come": ({ home }) => home.send(frames((f) => f.data(1, byte()))),
  "data beyond what has come, later": ({ home }) =>
    home.send(frames((f) => {
      f.data(0, new Uint8Array(10));
      f.data(11, byte());
    })),
  "data beyond the credit": async ({ home }) => {
    await home.send(frames((f) => f.data(0, new Uint8Array(LIMIT))));
    await home.send((f) => f.data(LIMIT, byte()));
  },
  "data beyond the credit in one frame": ({ home }) =>
    home.send(frames((f) => f.data(0, new Uint8Array(LIMIT + 1)))),
  "an acknowledgement of what was not sent": ({ home }) =>
    home.send(frames((f) => f.ack(1, LIMIT))),
  "an acknowledgement of an end that was not sent": async (side) => {
    await side.write(10);
    await side.lane.expect("data");
    await side.lane.send(frames((f) => f.ack(11, LIMIT)));
  },
  "an acknowledgement of less than before": async (side) => {
    await side.write(10);
    await side.lane.expect("data");
    await side.home.send(frames((f) => {
      f.ack(10, LIMIT);
      f.ack(9, LIMIT);
    }));
  },
  "credit that shrinks": ({ home }) =>
    home.send(frames((f) => {
      f.ack(0, LIMIT + 10);
      f.ack(0, LIMIT + 9);
    })),
  "less credit than there is at the start": ({ home }) =>
    home.send(frames((f) => f.ack(0, LIMIT - 1))),
  "generation 0": ({ home }) => home.send((f) => f.start(0)),
  "a generation that does not grow on its carrier": ({ home }) =>
    home.send((f) => {
      f.start(2);
      f.start(2);
    }),
  "a generation that shrinks on its carrier": ({ home }) =>
    home.send((f) => {
      f.start(2);
      f.start(1);
    }),
  "a generation that was begun on another carrier": async (side) => {
    await side.home.send((f) => f.start(3));
    await settled();
    await side.lane.send((f) => f.start(3));
  },
  "a generation more than 16 ahead": ({ home }) => home.send((f) => f.start(17)),
  "a generation more than 16 ahead, later": ({ home }) =>
    home.send((f) => {
      f.start(16);
      f.start(33);
    }),
  "data before a start": ({ home }) => home.send((f) => f.data(0, byte())),
  "an end before a start": ({ home }) => home.send((f) => f.end(0)),
  "an acknowledgement before a start": ({ home }) => home.send((f) => f.ack(0, LIMIT)),
  "a stop before a start": ({ home }) => home.send((f) => f.stop()),
  "data before a start on the lane, after one at home": async (side) => {
    await side.home.send((f) => f.start(1));
    await settled();
    await side.lane.send((f) => f.data(0, byte()));
  },
  "data after the end": ({ home }) =>
    home.send(frames((f) => {
      f.end(0);
      f.data(0, byte());
    })),
  "data again after the end": ({ home }) =>
    home.send(frames((f) => {
      f.data(0, byte());
      f.end(1);
      f.data(0, byte());
    })),
  "a second end": ({ home }) =>
    home.send(frames((f) => {
      f.end(0);
      f.end(0);
    })),
  "another end on another carrier": async (side) => {
    await side.home.send(frames((f) => f.end(0)));
    await settled();
    await side.lane.send((f) => {
      f.start(2);
      f.data(0, byte());
    });
  },
  "an end before the last byte": ({ home }) =>
    home.send(frames((f) => {
      f.data(0, new Uint8Array(2));
      f.end(1);
    })),
  "an end after bytes that are missing": ({ home }) => home.send(frames((f) => f.end(1))),
  "a frame of type 0": ({ home }) => home.sendBytes(0),
  "a frame of type 8": ({ home }) => home.sendBytes(8),
  "a frame of type 0x7f": ({ home }) => home.sendBytes(0x7f),
  "a frame of an unknown type on the lane": ({ lane }) => lane.sendBytes(0),
  "data of more than 1 MiB": ({ home }) => home.send(frames((f) => f.dataHeader(0, (1 << 20) + 1))),
  "a reserved frame of more than 64 KiB": ({ home }) => home.sendBytes(0x80, 0, 1, 0, 1),
  "an offset of 2^53": ({ home }) => home.sendBytes(3, 0, 0x20, 0, 0, 0, 0, 0, 0),
};

function frames(compose: (frames: FrameWriter) => void) {
  return (frames: FrameWriter) => {
    frames.start(1);
    compose(frames);
  };
}

function byte(): Uint8Array {
  return Uint8Array.of(1);
}

/** Waits until what was sent has been read. */
async function settled(): Promise<void> {
  await turns(5);
}

for (const [name, commit] of Object.entries(breaches)) {
  Deno.test(`Session: ${name}: it is reset with code 4, and no other session`, async () => {
    const side = new Side();
    const others = memoryStream().map((stream) => new Session(stream, never));
    const carrying = assertCarries(others as [Session, Session]);
    await commit(side);
    assertProtocolError(await side.failed);
    // What came before can be read. After an end that came before there is no error.
    const error = await side.read(Infinity).then(() => undefined, (error) => error);
    if (error !== undefined || !name.includes("end")) assertProtocolError(error);
    await until(() => side.home.end !== undefined);
    const { error: told } = side.home.end!;
    assert(told instanceof StreamError && told.code === CloseCode.BAD_HELLO, `${told}`);
    await until(() => side.lane.end !== undefined); // the lane is closed
    await carrying;
    await Promise.all([side.session.detach(), ...others.map((session) => session.detach())]);
  });
}

function assertProtocolError(error: unknown): void {
  assert(error instanceof StreamError, `${error}`);
  assert.deepEqual([error.kind, error.code], ["refused", CloseCode.BAD_HELLO]);
  assert.match(error.message, /^against the protocol: /);
}

Deno.test("Session: a second end is against the protocol also if nothing is read", async () => {
  const side = new Side();
  await side.session.readable.cancel();
  await side.lane.expect("stop");
  await side.home.send(frames((f) => {
    f.end(5);
    f.end(5);
  }));
  assertProtocolError(await side.failed);
  await side.session.detach();
});

Deno.test("Session drops frames of an older generation whole, whatever they say", async () => {
  const side = new Side(), { session, home, lane } = side;
  await home.send(frames((f) => f.data(0, Uint8Array.of(1))));
  await settled();
  await lane.send((f) => {
    f.start(2);
    f.data(0, Uint8Array.of(1, 2)); // of which a byte has come
  });
  await settled();
  await home.send((f) => {
    f.data(1, Uint8Array.of(9));
    f.data(1_000, new Uint8Array(LIMIT));
    f.ack(1_000, 0);
    f.stop();
    f.end(7);
    f.end(8);
    f.probe(77); // answered all the same
  });
  assert.deepEqual(await home.expect("echo"), ["echo", 77]);
  await lane.send((f) => {
    f.data(2, Uint8Array.of(3));
    f.end(3);
  });
  assert.deepEqual(await side.read(10), [1, 2, 3]);
  await side.write(5); // it was not stopped
  assert.deepEqual(await lane.expect("data"), ["data", 0, 5]);
  assert.equal(session.received, 3);
  await session.detach();
});

Deno.test("Session: the start of an older generation, which comes late, is none", async () => {
  const side = new Side(), { home, lane } = side;
  await lane.send((f) => {
    f.start(2);
    f.data(0, Uint8Array.of(1));
  });
  await settled();
  await home.send((f) => {
    f.start(1);
    f.data(0, Uint8Array.of(9, 9));
  });
  await settled();
  await lane.send((f) => f.data(1, Uint8Array.of(2)));
  assert.deepEqual(await side.read(2), [1, 2]);
  assert(side.session.lane); // which was not given up
  await side.session.detach();
});

Deno.test("Session takes up to 16 generations that it did not see", async () => {
  const side = new Side();
  await side.home.send((f) => {
    f.start(16);
    f.start(32);
    f.data(0, Uint8Array.of(1));
  });
  assert.deepEqual(await side.read(1), [1]);
  await side.session.detach();
});

Deno.test("Session takes the end again, on another carrier", async () => {
  const side = new Side();
  await side.home.send(frames((f) => {
    f.data(0, Uint8Array.of(1));
    f.end(1);
  }));
  await settled();
  for (const start of [2, 3]) {
    await side.lane.send((f) => {
      f.start(start);
      f.data(0, Uint8Array.of(1));
      f.end(1);
    });
  }
  assert.deepEqual(await side.read(2), [1]);
  await side.write(5); // it goes on
  await until(() => side.lane.frames.some(([type]) => type === "data"));
  assert.equal(side.home.end, undefined);
  await side.session.detach();
});

Deno.test("Session skips frames of reserved types, and echoes probes before any start", async () => {
  const side = new Side();
  await side.home.sendBytes(0x80, 0, 0, 0, 2, 6, 6);
  await side.home.send((f) => f.probe(5));
  assert.deepEqual(await side.home.expect("echo"), ["echo", 5]);
  await side.home.sendBytes(0xff, 0, 0, 0, 0);
  await side.home.send(frames((f) => f.data(0, byte())));
  assert.deepEqual(await side.read(1), [1]);
  await side.session.detach();
});

Deno.test("Session answers the newest of many probes, so that they do not fill the memory", async () => {
  const side = new Side(), [{ out }] = side.ends.home;
  out.isHeld = true;
  await side.home.send((f) => {
    for (let id = 1; id <= 10_000; id++) f.probe(id);
  });
  await settled();
  assert(out.writes <= 2, `${out.writes}`);
  out.release();
  await until(() => side.home.frames.some(([, id]) => id === 10_000));
  await side.session.detach();
});

Deno.test("Session keeps at most 8 MiB for a peer that grants more, and acknowledges nothing", async () => {
  const side = new Side();
  await side.home.send(frames((f) => f.ack(0, Number.MAX_SAFE_INTEGER)));
  side.write(20 << 20).catch(() => {}); // it ends with the session
  await until(() => side.session.sent >= MAX_WINDOW_BYTES);
  await settled();
  assert.equal(side.session.sent, MAX_WINDOW_BYTES);
  await side.session.abort(new StreamError("reset", "enough"));
  await side.session.detach();
});

/** A number that is right, or about right, or any. */
const skew = fc.oneof(
  { weight: 12, arbitrary: fc.constant(0) },
  fc.integer({ min: -3, max: 3 }),
  fc.integer({ min: -LIMIT, max: LIMIT }),
  fc.maxSafeNat(),
);
const where = fc.constantFrom("home", "lane");
const hostile = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("start"), where, skew }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("data"),
      where,
      skew,
      length: fc.oneof(fc.nat(300), fc.nat(LIMIT)),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("ack"), where, skew, credit: skew }) },
  fc.record({ kind: fc.constant("end"), where, skew }),
  fc.record({ kind: fc.constantFrom("stop", "probe", "echo"), where, skew }),
  fc.record({ kind: fc.constant("bytes"), where, bytes: fc.uint8Array({ maxLength: 20 }) }),
  fc.record({ kind: fc.constantFrom("wait", "newLane", "cutLane") }),
);

/** What the session does meanwhile. */
const conduct = fc.record({
  reads: fc.boolean(),
  writes: fc.oneof(fc.constant(0), fc.nat(1_000_000)),
  closes: fc.boolean(),
  cancels: fc.boolean(),
  /** How the peer ends it. */
  ending: fc.constantFrom("finish", "reset", "refuse"),
});

Deno.test("Session: whatever frames come, it goes on or ends with the protocol's code", async () => {
  const outcomes = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.array(hostile, { maxLength: 40 }), conduct, async (actions, conduct) => {
      const side = new Side(), { session, home } = side;
      let { lane } = side, generation = 0, offset = 0, acknowledged = 0, credit = LIMIT;
      const others = memoryStream().map((stream) => new Session(stream, never));
      const carrying = assertCarries(others as [Session, Session]);
      const writing = side.write(conduct.writes)
        .then(() => conduct.closes ? side.close() : undefined)
        .then(() => undefined, (error) => error);
      const reading = conduct.cancels
        ? session.readable.cancel()
        : conduct.reads
        ? session.readable.pipeTo(new WritableStream())
        : Promise.resolve();
      const read = reading.then(() => undefined, (error) => error);
      for (const action of actions) {
        const skewed = (right: number, by: number) =>
          Math.max(0, Math.min(right + by, Number.MAX_SAFE_INTEGER));
        const sent = (to: "home" | "lane", compose: (frames: FrameWriter) => void) => {
          (to === "home" ? home : lane).send(compose).catch(() => {}); // it may be closed
        };
        switch (action.kind) {
          case "start":
            generation = skewed(generation + 1, action.skew) >>> 0;
            sent(action.where, (f) => f.start(generation));
            break;
          case "data": {
            const at = skewed(offset, action.skew);
            sent(action.where, (f) => f.data(at, new Uint8Array(action.length)));
            offset = at + action.length;
            break;
          }
          case "ack":
            acknowledged = skewed(session.sent, Math.min(0, action.skew));
            credit = skewed(credit, action.credit);
            sent(action.where, (f) => f.ack(acknowledged, credit));
            break;
          case "end":
            sent(action.where, (f) => f.end(skewed(offset, action.skew)));
            break;
          case "stop":
            sent(action.where, (f) => f.stop());
            break;
          case "probe":
          case "echo":
            sent(action.where, (f) => f[action.kind as "probe"](action.skew >>> 0));
            break;
          case "bytes":
            if (action.bytes.length === 0) break;
            (action.where === "home" ? home : lane).sendBytes(...action.bytes).catch(() => {});
            break;
          case "newLane": {
            const [mine, peers] = memoryLane();
            session.attachLane(mine);
            lane = RawPeer.onLane(peers);
            break;
          }
          case "cutLane":
            session.lane?.close();
            break;
          case "wait":
            await turns(3);
        }
        assert(session.sent <= acknowledged + MAX_WINDOW_BYTES || session.sent <= conduct.writes);
        if (!conduct.reads || conduct.cancels) assert(session.received <= LIMIT);
      }
      await turns(3);
      if (conduct.ending === "finish") await home.finish().catch(() => {}); // it is over
      else await home.reset(conduct.ending === "reset" ? 0n : CloseCode.STOPPED);
      const [writeError, readError] = await Promise.all([writing, read]);
      for (const error of [writeError, readError]) {
        if (error === undefined) continue;
        assert(error instanceof StreamError, `${error}`);
        const name = `${error.kind} ${error.code ?? ""}`;
        outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
        if (error.code === CloseCode.BAD_HELLO) assertProtocolError(error);
        else assert(["reset ", `refused ${CloseCode.STOPPED}`].includes(name), name);
      }
      await carrying;
      await Promise.all([session.detach(), ...others.map((session) => session.detach())]);
      assert.equal(session.lane, undefined);
    }),
    { numRuns: 300 },
  );
  assert(outcomes.get(`refused ${CloseCode.BAD_HELLO}`)! > 50, `${[...outcomes]}`);
  assert(outcomes.size === 3, `${[...outcomes]}`);
});
