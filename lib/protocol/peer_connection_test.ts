import assert from "node:assert/strict";
import { abortable } from "../async/abort.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { CloseCode } from "./close_codes.ts";
import { newSessionId, ping, ProtocolError, StreamType, writeStreamHeader } from "./mux.ts";
import type { InboundSession } from "./inbound_session.ts";
import { IdleTimeout } from "./connection_use.ts";
import { MuxConnection, type MuxConnectionOptions } from "./peer_connection.ts";
import type { Session } from "./session.ts";
import { until } from "../../tests/memory_carriers.ts";
import { MemoryConnection } from "../../tests/memory_connection.ts";

function sessionHeader(session: number) {
  return { type: StreamType.SESSION, session, id: newSessionId() } as const;
}

/** Serves a connection whose sessions send back what they receive. @param letIn Lets the peer in; at once by default. */
function serveEchoes(
  options: Partial<MuxConnectionOptions> = {},
  letIn = (inbound: InboundSession) => inbound.markAuthenticated(),
) {
  const connection = new MemoryConnection(), stop = new AbortController();
  const serve = async (inbound: InboundSession) => {
    letIn(inbound);
    const { readable, writable } = inbound.session;
    await readable.pipeTo(writable, { signal: inbound.ended }).catch(() => {}); // it is over
  };
  const mux = new MuxConnection(connection.asConnection, {
    isDialed: false,
    bind: undefined,
    serve,
    ...options,
  });
  const served: Promise<unknown> = mux.serve(stop.signal).catch((error) => error);
  return { connection, served, stop: () => stop.abort(new Error("stopped")) };
}

/** Whether a session carries bytes there and back. */
async function assertEchoes(session: Session): Promise<void> {
  const writer = session.writable.getWriter(), reader = session.readable.getReader();
  await writer.write(Uint8Array.of(1, 2, 3));
  const { value } = await reader.read();
  assert.deepEqual(value && [...value], [1, 2, 3]);
  writer.releaseLock();
  reader.releaseLock();
}

/** Writes to a stream, and returns the error with which its peer gives it up. */
async function answerTo(stream: Duplex, bytes: number[]): Promise<unknown> {
  const writer = stream.writable.getWriter();
  await writer.write(Uint8Array.from(bytes));
  writer.closed.catch(() => {}); // reading tells
  try {
    for await (const _ of stream.readable); // until it ends
    return undefined;
  } catch (error) {
    return error;
  }
}

Deno.test("MuxConnection: a session against the protocol is reset alone, with code 4", async () => {
  const { connection, served, stop } = serveEchoes();
  const other = await connection.openSession(0);
  await assertEchoes(other);
  const stream = connection.openAsPeer();
  await writeStreamHeader(stream, sessionHeader(1));
  const error = await answerTo(stream, [0]);
  assert(error instanceof StreamError && error.code === CloseCode.BAD_HELLO, `${error}`);
  await assertEchoes(other);
  await assertEchoes(await connection.openSession(2));
  stop();
  assert.match(`${await served}`, /stopped/);
});

Deno.test("MuxConnection resets a stream of an unknown type alone, with code 7", async () => {
  const { connection, served, stop } = serveEchoes();
  const session = await connection.openSession(0);
  await assertEchoes(session);
  for (const type of [0, 6, 0x80, 0xff]) {
    const error = await answerTo(connection.openAsPeer(), [type]);
    assert(error instanceof StreamError && error.code === CloseCode.UNSUPPORTED, `${error}`);
  }
  await assertEchoes(session);
  await ping(connection.openAsPeer());
  stop();
  assert.match(`${await served}`, /stopped/);
});

Deno.test("MuxConnection ends when a session's number is used twice", async () => {
  const { connection, served } = serveEchoes();
  await assertEchoes(await connection.openSession(0));
  await connection.openSession(0);
  assert(await served instanceof ProtocolError);
});

Deno.test("MuxConnection: a session with an invalid offer of a lane is reset alone, with code 4", async () => {
  const offers = {
    "no offer": [2, 0, 0],
    "no JSON": [1, 0, 2, 0x7b, 0x7b],
    "an unknown kind": [9, 0, 0],
    "too long": [1, 0x20, 1],
  };
  const { connection, served, stop } = serveEchoes();
  const other = await connection.openSession(0);
  await assertEchoes(other);
  for (const [i, [what, bytes]] of Object.entries(offers).entries()) {
    const session = await connection.openSession(1 + i);
    await assertEchoes(session);
    const stream = connection.openAsPeer();
    await writeStreamHeader(stream, { type: StreamType.LANE, session: 1 + i });
    await stream.writable.getWriter().write(Uint8Array.from(bytes));
    const error = await session.readable.getReader().read().then(() => undefined, (error) => error);
    assert(error instanceof StreamError && error.code === CloseCode.BAD_HELLO, `${what}: ${error}`);
    await assertEchoes(other);
  }
  await ping(connection.openAsPeer());
  stop();
  assert.match(`${await served}`, /stopped/);
});

Deno.test("MuxConnection answers an offer of a lane whose header comes before that of its session", async () => {
  const { connection, stop } = serveEchoes();
  await assertEchoes(await connection.openSession(0));
  const late = connection.openAsPeer(), lane = connection.openAsPeer();
  await writeStreamHeader(lane, { type: StreamType.LANE, session: 1 });
  await ping(connection.openAsPeer()); // by then, the header of the lane has been read
  await writeStreamHeader(late, sessionHeader(1));
  const error = await answerTo(lane, [9, 0, 0]); // no offer: the session is asked
  const ended = await late.readable.getReader().read().then(() => undefined, (error) => error);
  assert(ended instanceof StreamError && ended.code === CloseCode.BAD_HELLO, `${ended}, ${error}`);
  stop();
});

Deno.test("MuxConnection gives up at once a lane whose session is over or was never opened, and nothing else", async () => {
  const inbounds: InboundSession[] = [];
  const { connection, stop } = serveEchoes({}, (inbound) => {
    inbound.markAuthenticated();
    inbounds.push(inbound);
  });
  const session = await connection.openSession(0), short = await connection.openSession(1);
  await Promise.all([assertEchoes(session), assertEchoes(short)]);
  const earlier = connection.openAsPeer(); // begins no session, and is not waited for
  await earlier.writable.getWriter().write(Uint8Array.of(StreamType.PING));
  short.abort(new StreamError("reset", "given up"));
  await until(() => inbounds[1]!.ended.aborted);
  const lanes = [1, 7].map((number) => ({ number, lane: connection.openAsPeer() }));
  connection.openAsPeer(); // comes later, has no header, and is not waited for
  const soon = AbortSignal.timeout(5_000); // a header takes at most 10 s
  for (const { number, lane } of lanes) {
    await writeStreamHeader(lane, { type: StreamType.LANE, session: number });
    await abortable(answerTo(lane, []), soon); // it ends
  }
  await assertEchoes(session);
  stop();
});

Deno.test("MuxConnection keeps no lane that waits for its session once the connection is lost", async () => {
  const { connection, served } = serveEchoes();
  const late = connection.openAsPeer(), lane = connection.openAsPeer();
  await writeStreamHeader(lane, { type: StreamType.LANE, session: 1 });
  await ping(connection.openAsPeer()); // by then, the header of the lane has been read
  connection.lose();
  await late.writable.abort(new StreamError("lost", "nothing comes")); // as all streams of iroh's end
  const soon = AbortSignal.timeout(5_000); // by itself the wait ends after 10 s
  await abortable(answerTo(lane, []), soon); // it ends
  await served;
});

const MALFORMED: Record<string, number[]> = {
  "that ends before its type": [],
  "that ends before its header is whole": [StreamType.SESSION, 0, 0, 0, 1, 7],
  "with a ping of 7 bytes": [StreamType.PING, 1, 2, 3, 4, 5, 6, 7],
  "with a ping of 9 bytes": [StreamType.PING, 1, 2, 3, 4, 5, 6, 7, 8, 9],
};

for (const [what, bytes] of Object.entries(MALFORMED)) {
  Deno.test(`MuxConnection ends on a stream ${what}`, async () => {
    const { connection, served } = serveEchoes();
    await assertEchoes(await connection.openSession(0));
    const writer = connection.openAsPeer().writable.getWriter();
    if (bytes.length > 0) await writer.write(Uint8Array.from(bytes));
    writer.close().catch(() => {}); // the connection ends
    assert(await served instanceof ProtocolError);
  });
}

Deno.test("MuxConnection gives up a stream alone that is reset before its header is whole", async () => {
  const { connection, served, stop } = serveEchoes();
  const session = await connection.openSession(0);
  await assertEchoes(session);
  const writer = connection.openAsPeer().writable.getWriter();
  await writer.write(Uint8Array.of(StreamType.SESSION, 0));
  await writer.abort(new StreamError("reset", "given up"));
  await assertEchoes(session);
  await ping(connection.openAsPeer());
  stop();
  assert.match(`${await served}`, /stopped/);
});

Deno.test("MuxConnection ends if a header or a ping is not whole in time, with code 4", async () => {
  for (const bytes of [[], [StreamType.LANE, 0], [StreamType.PING, 1, 2]]) {
    const { connection, served } = serveEchoes({ headerTimeoutMs: 5 });
    await assertEchoes(await connection.openSession(0));
    const stream = connection.openAsPeer();
    if (bytes.length > 0) await stream.writable.getWriter().write(Uint8Array.from(bytes));
    const error = await served;
    assert(error instanceof IdleTimeout);
    assert.deepEqual(error.closeReason, [CloseCode.BAD_HELLO, "no hello"]);
  }
});

Deno.test("MuxConnection resets the fifth session of a stranger with code 1, unless one is let in", async () => {
  const inbounds: InboundSession[] = [];
  const options = { strangerWaitMs: 20 };
  const { connection, stop } = serveEchoes(options, (inbound) => inbounds.push(inbound));
  const sessions = await Promise.all([0, 1, 2, 3].map((number) => connection.openSession(number)));
  for (const session of sessions) await assertEchoes(session);
  const refused = connection.openAsPeer();
  await writeStreamHeader(refused, sessionHeader(4));
  await assert.rejects(refused.readable.getReader().read(), { code: CloseCode.BUSY });
  sessions[0]!.abort(new StreamError("reset", "given up"));
  await until(() => inbounds[0]!.ended.aborted);
  await assertEchoes(await connection.openSession(5)); // there is room again
  await ping(connection.openAsPeer());
  const waiting = await Promise.all([6, 7, 8].map((number) => connection.openSession(number)));
  inbounds[1]!.markAuthenticated();
  for (const session of waiting) await assertEchoes(session);
  assert.equal(inbounds.length, 8);
  stop();
});

Deno.test("MuxConnection begins four sessions of a stranger in a second, however soon they end", async () => {
  const strangerWaitMs = 200, since = performance.now();
  const inbounds: InboundSession[] = [];
  const { connection, stop } = serveEchoes({ strangerWaitMs }, (inbound) => inbounds.push(inbound));
  await assertEchoes(await connection.openSession(0)); // keeps the connection
  for (const number of [1, 2, 3]) {
    const session = await connection.openSession(number);
    await assertEchoes(session);
    session.abort(new StreamError("reset", "given up"));
    await until(() => inbounds[number]!.ended.aborted);
  }
  await assertEchoes(await connection.openSession(4));
  assert(performance.now() - since >= strangerWaitMs);
  stop();
});

Deno.test("MuxConnection reads eight streams of a stranger at once, and all of a peer that is let in", async () => {
  const inbounds: InboundSession[] = [];
  const { connection, stop } = serveEchoes({}, (inbound) => inbounds.push(inbound));
  const session = await connection.openSession(0);
  await assertEchoes(session);
  for (let i = 0; i < 7; i++) connection.openAsPeer(); // no header comes
  const pinging = ping(connection.openAsPeer());
  const early = new Promise((resolve) => setTimeout(() => resolve("no answer"), 20));
  assert.equal(await Promise.race([pinging, early]), "no answer");
  await assertEchoes(session);
  inbounds[0]!.markAuthenticated();
  await pinging;
  stop();
});

Deno.test("MuxConnection ends with code 0 once it is idle for its time, and not while there is a session", async () => {
  const { connection, served } = serveEchoes({ idleTimeoutMs: 10 });
  const keepAlive = setInterval(() => {}, 1_000); // its timer does not
  const session = await connection.openSession(0);
  await assertEchoes(session);
  await ping(connection.openAsPeer());
  const early = new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(await Promise.race([served, early]), undefined);
  session.abort(new StreamError("reset", "given up"));
  const error = await served;
  assert(error instanceof IdleTimeout, `${error}`);
  assert.deepEqual(error.closeReason, [CloseCode.DONE, ""]);
  clearInterval(keepAlive);
});
