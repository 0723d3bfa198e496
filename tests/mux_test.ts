/** What a peer does on the mux protocol, by mistake or on purpose, harms no other session. */

import { CloseCode } from "../lib/protocol/close_codes.ts";
import assert from "node:assert/strict";
import { abortable } from "../lib/async/abort.ts";
import type { Duplex } from "../lib/streams/duplex.ts";
import type { Connection } from "../lib/iroh/connection.ts";
import { Endpoint } from "../lib/iroh/endpoint.ts";
import { decodeTicket } from "../lib/repository/ticket.ts";
import {
  MUX_ALPN,
  newSessionId,
  ping,
  StreamType,
  writeStreamHeader,
} from "../lib/protocol/mux.ts";
import { Session } from "../lib/protocol/session.ts";
import { AUTH_SUCCESS, echo, makePair, type Pair } from "./pair.ts";
import { concat, scenario, type TestEnv } from "./testenv.ts";

/** Dials with the mux protocol from the test itself. */
async function dial(env: TestEnv, { dialed }: Pair): Promise<Connection & AsyncDisposable> {
  const endpoint = await Endpoint.bind({ relay: { kind: "none" }, lookup: false });
  const { publicKey, direct } = decodeTicket(dialed);
  const connection = await endpoint.connect({ publicKey, direct }, MUX_ALPN, env.signal);
  return Object.assign(connection, {
    [Symbol.asyncDispose]: () => endpoint[Symbol.asyncDispose](),
  });
}

async function write(stream: Duplex, bytes: Uint8Array): Promise<void> {
  const writer = stream.writable.getWriter();
  await writer.write(bytes);
  writer.releaseLock();
}

/** The frames START with generation 1, and DATA from offset 0, of nine bytes, of which one comes. */
const CUT_SHORT = Uint8Array.of(1, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1);

/** Opens a session, and waits until git-annex has admitted it. */
async function openSession(connection: Connection, number: number): Promise<Session> {
  const stream = await connection.open();
  await writeStreamHeader(stream, {
    type: StreamType.SESSION,
    session: number,
    id: newSessionId(),
  });
  const session = new Session(stream, connection.closedError);
  const reader = session.readable.getReader();
  assert.equal(new TextDecoder().decode((await reader.read()).value), AUTH_SUCCESS);
  reader.releaseLock();
  return session;
}

/** Checks that a session carries bytes in both directions, to its end. */
async function carries(session: Session): Promise<void> {
  const writer = session.writable.getWriter();
  const sending = writer.write(new TextEncoder().encode("word")).then(() => writer.close());
  sending.catch(() => {}); // awaited below, so that the read fails first
  const said = await Array.fromAsync(session.readable);
  assert.equal(new TextDecoder().decode(concat(said)), "word");
  await sending;
}

scenario("mux: a stream that is reset disturbs no other stream", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  await using connection = await dial(env, pair);
  for (let i = 0; i < 150; i++) { // more than QUIC permits at once
    const stream = await connection.open();
    await write(stream, Uint8Array.of(StreamType.SESSION));
    await stream.writable.abort();
    await stream.readable.cancel();
  }
  await carries(await openSession(connection, 1));
});

scenario(
  "mux: a session that is cut short ends, and disturbs no other session",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    await using connection = await dial(env, pair);
    const kept = await openSession(connection, 0);
    for (const number of [1, 2]) {
      const stream = await connection.open();
      await writeStreamHeader(stream, {
        type: StreamType.SESSION,
        session: number,
        id: newSessionId(),
      });
      await stream.readable.getReader().read(); // git-annex has admitted it
      await write(stream, CUT_SHORT);
      stream.writable.close().catch(() => {});
      await env.until("git-annex to be told", () => pair.fakeAnnex.open === 1);
    }
    await carries(kept);
  },
);

scenario(
  "mux: a signaling stream that leads to nothing does not disturb its session",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    await using connection = await dial(env, pair);
    const session = await openSession(connection, 7);
    const [ended, stranger] = [await connection.open(), await connection.open()];
    await writeStreamHeader(ended, { type: StreamType.LANE, session: 7 });
    await ended.writable.close();
    await writeStreamHeader(stranger, { type: StreamType.LANE, session: 8 }); // a session that does not exist
    await ping(await connection.open());
    await carries(session);
  },
);

scenario("mux: a stream of an unknown type, or of no session, is reset alone", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  await using connection = await dial(env, pair);
  const session = await openSession(connection, 1);
  const unknown = await connection.open(), resumed = await connection.open();
  await write(unknown, Uint8Array.of(9));
  await assert.rejects(unknown.readable.getReader().read(), { code: CloseCode.UNSUPPORTED });
  await writeStreamHeader(resumed, { type: StreamType.RESUME, session: 2, id: newSessionId() });
  await assert.rejects(resumed.readable.getReader().read(), { code: CloseCode.BROKEN_OFF });
  await carries(session);
});

scenario("mux: an invalid offer of a lane ends its session alone", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  await using connection = await dial(env, pair);
  const other = await openSession(connection, 2), session = await openSession(connection, 3);
  const lane = await connection.open();
  await writeStreamHeader(lane, { type: StreamType.LANE, session: 3 });
  await write(lane, Uint8Array.of(1, 0, 2, 0x7b, 0x7d)); // {} is not an offer
  await assert.rejects(session.readable.getReader().read(), { code: CloseCode.BAD_HELLO });
  await carries(other);
});

scenario(
  "mux: an offer of a lane waits for its session, but not if that is over",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    await using connection = await dial(env, pair);
    await openSession(connection, 2);
    // iroh tells streams in the order in which the peer has opened them, whatever comes on them first.
    const home = await connection.open(), lane = await connection.open();
    await writeStreamHeader(lane, { type: StreamType.LANE, session: 3 });
    await ping(await connection.open()); // by then, the listener has read that header
    await writeStreamHeader(home, { type: StreamType.SESSION, session: 3, id: newSessionId() });
    await write(lane, Uint8Array.of(1, 0, 2, 0x7b, 0x7d)); // {} is not an offer
    const { readable } = new Session(home, connection.closedError);
    await assert.rejects(Array.fromAsync(readable), { code: CloseCode.BAD_HELLO });
    const late = await connection.open(), soon = AbortSignal.timeout(5_000);
    await writeStreamHeader(late, { type: StreamType.LANE, session: 3 });
    await assert.rejects(abortable(late.readable.getReader().read(), soon), { kind: "reset" });
  },
);

scenario("mux: a session's number that is used twice ends the connection", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  {
    await using connection = await dial(env, pair);
    const header = { type: StreamType.SESSION, session: 3, id: newSessionId() } as const;
    await openSession(connection, 3);
    await writeStreamHeader(await connection.open(), header);
    const end = await env.within(connection.closed);
    assert.deepEqual([end.by, end.by === "peer" && end.code], ["peer", 4n]);
  }
  await using connection = await dial(env, pair);
  await carries(await openSession(connection, 0));
});
