import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import type { Lane } from "../lane/lane.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { Session } from "./session.ts";
import { memoryLane } from "../../tests/memory_carriers.ts";
import { pipe } from "../../tests/pipe.ts";
import { eventLoopTurns } from "../../tests/event_loop.ts";

/** Two ends of a session, whose connection can be lost and replaced. */
class Pair {
  readonly sessions: readonly [Session, Session];
  lost = 0;
  #closed: ReturnType<typeof Promise.withResolvers<StreamError>>[] = [];
  /** For each end, what to attach when it has noticed the loss. */
  #waiting: (() => void)[] = [];

  constructor(wait: number) {
    this.sessions = this.#connect(wait, (stream, closed) => {
      const which = this.#waiting.length;
      this.#waiting.push(() => {});
      const session = new Session(stream, closed, {
        lookMs: 2,
        stallMs: 10,
        onHomeLost: () => {
          this.lost++;
          this.#waiting[which]!();
        },
      });
      session.markAuthenticated();
      return session;
    });
  }

  #connect<T>(
    wait: number,
    make: (stream: Duplex, closed: Promise<StreamError>, i: number) => T,
  ): [T, T] {
    this.#closed = [Promise.withResolvers(), Promise.withResolvers()];
    return pipe(wait).map((end, i) => make(likeIroh(end), this.#closed[i]!.promise, i)) as [T, T];
  }

  /** Loses the connection, of which each end hears after so many turns, and makes another. */
  async replace(wait: number, turns: readonly [number, number]): Promise<void> {
    const before = this.#closed;
    const attached = this.sessions.map(() => Promise.withResolvers<void>());
    this.#connect(wait, (stream, closed, i) => {
      this.#waiting[i] = () => {
        this.sessions[i]!.attachHome(stream, closed);
        attached[i]!.resolve();
      };
    });
    await Promise.all(turns.map(async (count, i) => {
      await eventLoopTurns(count);
      before[i]!.resolve(new StreamError("lost", "nothing comes"));
      await attached[i]!.promise;
    }));
  }

  /** Attaches a lane, which each end has after so many turns. */
  async attachLane(ends: readonly [Lane, Lane], turns: readonly [number, number]): Promise<void> {
    await Promise.all(turns.map(async (count, i) => {
      await eventLoopTurns(count);
      this.sessions[i]!.attachLane(ends[i]!);
    }));
  }
}

/** The stream, whose writes fail as iroh's do when the connection is lost. */
function likeIroh({ readable, writable }: Duplex): Duplex {
  const writer = writable.getWriter();
  const fail = () => {
    throw new StreamError("lost", "nothing comes");
  };
  return {
    readable,
    writable: new WritableStream({
      write: (chunk) => writer.write(chunk).catch(fail),
      close: () => writer.close().catch(fail),
      abort: (reason) => writer.abort(reason),
    }),
  };
}

async function send(session: Session, chunks: readonly Uint8Array[]): Promise<void> {
  const writer = session.writable.getWriter();
  for (const chunk of chunks) {
    await eventLoopTurns(1);
    await writer.write(chunk);
  }
  await writer.close();
}

async function receive(session: Session): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of session.readable) parts.push(part.slice());
  return Buffer.concat(parts);
}

Deno.test("Session: goes on on another connection, with no byte lost, doubled or out of order, whatever becomes of its lanes", async () => {
  const chunk = fc.integer({ min: 1, max: 60_000 }).map((length) =>
    Uint8Array.from({ length }, (_, i) => i * 7 + (i >> 8))
  );
  const chunks = fc.array(chunk, { maxLength: 12 });
  const turns = fc.tuple(fc.nat(6), fc.nat(6));
  const direction = fc.record({
    fault: fc.constantFrom("none", "closed", "silent"),
    after: fc.oneof(fc.nat(300), fc.nat(200_000)),
    wait: fc.nat(3),
  });
  const lane = fc.record({ ends: fc.tuple(direction, direction), turns });
  const loss = fc.record({ lane: fc.option(lane, { freq: 2 }), turns });
  const losses = fc.array(loss, { minLength: 1, maxLength: 4 });
  let lost = 0;
  await fc.assert(
    fc.asyncProperty(chunks, chunks, losses, fc.nat(2), async (forth, back, losses, wait) => {
      const pair = new Pair(wait), [a, b] = pair.sessions;
      const losing = (async () => {
        for (const { lane, turns } of losses) {
          if (lane) await pair.attachLane(memoryLane(...lane.ends), lane.turns);
          await pair.replace(wait, turns);
        }
      })();
      const [atB, atA] = await Promise.all([receive(b), receive(a), send(a, forth), send(b, back)]);
      assert.equal(Buffer.compare(atB, Buffer.concat(forth)), 0);
      assert.equal(Buffer.compare(atA, Buffer.concat(back)), 0);
      await losing;
      lost += pair.lost;
      await Promise.all([a.detach(), b.detach()]);
    }),
    { numRuns: 60 },
  );
  assert(lost > 60, `${lost}`);
});

Deno.test("Session: fails with the loss where it cannot be resumed", async () => {
  const [stream] = pipe(), closed = Promise.withResolvers<StreamError>();
  const session = new Session(stream, closed.promise);
  const loss = new StreamError("lost", "nothing comes");
  closed.resolve(loss);
  await assert.rejects(session.readable.getReader().read(), loss);
});

for (
  const loss of [
    new StreamError("refused", "the connection is lost (code 8)", { code: 8n }),
    new StreamError("forgotten", "the peer no longer knows this connection"),
  ]
) {
  Deno.test(`Session: waits for another connection after "${loss.message}", and fails when its owner says so`, async () => {
    const [stream] = pipe(), closed = Promise.withResolvers<StreamError>();
    const lost = Promise.withResolvers<StreamError>();
    const session = new Session(stream, closed.promise, { onHomeLost: lost.resolve });
    const reading = session.readable.getReader().read();
    const writing = session.writable.getWriter().write(new Uint8Array(10));
    closed.resolve(loss);
    const error = await lost.promise;
    await writing; // there is credit for it
    session.fail(error);
    await assert.rejects(reading, error);
  });
}
