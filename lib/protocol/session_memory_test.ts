import assert from "node:assert/strict";
import type { StreamError } from "../streams/duplex.ts";
import { Session } from "./session.ts";
import { pipe } from "../../tests/pipe.ts";
import { eventLoopTurns } from "../../tests/event_loop.ts";

const SESSIONS = 30;

Deno.test("Session: what is over is not kept in memory by its connection", async () => {
  const connectionClosed = new Promise<StreamError>(() => {}); // which lives for days
  const sessions: WeakRef<Session>[] = [];
  for (let i = 0; i < SESSIONS; i++) {
    const pair = pipe().map((stream) => new Session(stream, connectionClosed));
    await Promise.all(pair.map(async ({ readable, writable }, end) => {
      const writer = writable.getWriter();
      await writer.write(Uint8Array.of(end));
      const closing = writer.close();
      for await (const [byte] of readable) assert.equal(byte, 1 - end);
      await closing;
    }));
    await Promise.all(pair.map((session) => session.detach()));
    sessions.push(...pair.map((session) => new WeakRef(session)));
  }
  // In a turn of its own: what a WeakRef has given stays in memory to the end of that turn.
  const { gc } = globalThis as { gc?: () => void };
  for (let i = 0; i < 3; i++) {
    await eventLoopTurns(2);
    gc!();
  }
  await eventLoopTurns(2);
  const left = sessions.filter((session) => session.deref()).length;
  assert(left <= 4, `${left} of ${sessions.length}`); // the last ones may still be on the stack
});

Deno.test("Session: what has carried nothing takes little memory", async () => {
  const connectionClosed = new Promise<StreamError>(() => {});
  const before = Deno.memoryUsage().external;
  const pairs = Array.from({ length: 100 }, () => {
    return pipe().map((stream) => new Session(stream, connectionClosed));
  });
  await eventLoopTurns(2);
  const grown = Deno.memoryUsage().external - before;
  assert(grown < 200 * 4096, `${grown} bytes`); // a stranger's session is not worth more
  await Promise.all(pairs.flat().map((session) => session.detach()));
});
