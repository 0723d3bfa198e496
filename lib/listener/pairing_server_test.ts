import assert from "node:assert/strict";
import { eventLoopTurns } from "../../tests/event_loop.ts";
import { MemoryConnection } from "../../tests/memory_connection.ts";
import { pipe } from "../../tests/pipe.ts";
import { encodeTicket } from "../repository/ticket.ts";
import { parseAnnexLine } from "../pairing/annex_line.ts";
import {
  type PairingAnswer,
  type PairingRequest,
  readAnswer,
  sendRequest,
} from "../pairing/messages.ts";
import { IdleTimeout } from "../protocol/connection_use.ts";
import { readEnd, readStreamHeader, StreamType } from "../protocol/mux.ts";
import { MuxConnection } from "../protocol/peer_connection.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { closeReasonFor } from "./close_reasons.ts";
import { type PairingLimits, PairingServer } from "./pairing_server.ts";

const RIGHT = new Uint8Array(16).fill(1), WRONG = new Uint8Array(16).fill(2);
const ADDRESS = encodeTicket({ publicKey: new Uint8Array(32), relays: [] });
const WELCOME: PairingAnswer = {
  kind: "welcome",
  name: "bob",
  uuid: "01234567-89ab-cdef-0123-456789abcdef",
  line: parseAnnexLine(`p2p-annex::iroh:${ADDRESS}:token`)!,
  branch: "main",
};
const NOT_AUTHENTICATED = [5n, "not authenticated in time"];

/** Invitations of which one is right. Notes the keys of those that use one. */
class FakeBook {
  readonly keys: string[] = [];
  answer: () => Promise<PairingAnswer> = () => Promise.resolve(WELCOME);

  use({ secret }: PairingRequest, key: string): (() => Promise<PairingAnswer>) | undefined {
    this.keys.push(key);
    return secret[0] === RIGHT[0] ? () => this.answer() : undefined;
  }
}

/** A listener's end of a connection, and the peer's. */
class Peer {
  readonly connection = new MemoryConnection();
  readonly mux: MuxConnection;
  /** Resolves to what the connection is closed with. */
  readonly closed: Promise<readonly [bigint, string]>;
  readonly #stopped = new AbortController();

  constructor(server: PairingServer) {
    this.mux = new MuxConnection(this.connection.asConnection, {
      isDialed: false,
      bind: undefined,
      pair: (...request) => server.serve(...request),
      serve: () => Promise.resolve(),
    });
    this.closed = this.mux.serve(this.#stopped.signal).catch((error) =>
      error instanceof IdleTimeout ? error.closeReason : closeReasonFor(error)
    );
  }

  async ask(secret: Uint8Array): Promise<PairingAnswer> {
    const stream = this.connection.openAsPeer();
    await sendRequest(stream, { kind: "join", secret, name: "ann" });
    const answer = await readAnswer(stream);
    await Promise.all([stream.writable.close(), readEnd(stream)]);
    await eventLoopTurns(5);
    return answer;
  }

  /** Opens a stream on which nothing comes. */
  async openSilent(): Promise<Duplex> {
    const stream = this.connection.openAsPeer();
    const writer = stream.writable.getWriter();
    await writer.write(Uint8Array.of(StreamType.PAIR));
    writer.releaseLock();
    await eventLoopTurns(5);
    return stream;
  }

  stop(): void {
    this.#stopped.abort(new Error("stopped"));
  }
}

function scene(limits: Partial<PairingLimits> = {}): {
  book: FakeBook;
  server: PairingServer;
  peer: () => Peer;
} {
  const book = new FakeBook(), server = new PairingServer(book, limits);
  return { book, server, peer: () => new Peer(server) };
}

Deno.test("PairingServer: a peer with the secret is let in, and gets the answer", async () => {
  const { book, peer } = scene();
  const joiner = peer();
  assert.equal(joiner.mux.isAuthenticated, false);
  assert.deepEqual(await joiner.ask(RIGHT), WELCOME);
  assert.equal(joiner.mux.isAuthenticated, true);
  assert.deepEqual(book.keys, ["ab".repeat(32)]);
  for (let i = 0; i < 10; i++) assert.deepEqual(await joiner.ask(RIGHT), WELCOME);
  joiner.stop();
  await joiner.closed;
});

Deno.test("PairingServer: a wrong secret is refused, the fourth ends the connection", async () => {
  const { book, peer } = scene();
  const stranger = peer();
  for (let i = 0; i < 4; i++) assert.deepEqual(await stranger.ask(WRONG), { kind: "refused" });
  assert.deepEqual(await stranger.closed, NOT_AUTHENTICATED);
  assert.equal(stranger.mux.isAuthenticated, false);
  assert.equal(book.keys.length, 4);
});

Deno.test("PairingServer: a stranger has four tries also if it makes them at once", async () => {
  const { book, peer } = scene();
  const stranger = peer();
  const answers = await Promise.allSettled(
    Array.from({ length: 8 }, () => stranger.ask(WRONG)),
  );
  await stranger.closed;
  assert.equal(book.keys.length, 4);
  for (const answer of answers) {
    if (answer.status === "fulfilled") assert.deepEqual(answer.value, { kind: "refused" });
    else assert(answer.reason instanceof StreamError);
  }
});

Deno.test("PairingServer: a wrong secret, and then the right one", async () => {
  const { peer } = scene();
  const joiner = peer();
  for (let i = 0; i < 3; i++) assert.deepEqual(await joiner.ask(WRONG), { kind: "refused" });
  assert.deepEqual(await joiner.ask(RIGHT), WELCOME);
  joiner.stop();
  await joiner.closed;
});

Deno.test("PairingServer: silent strangers give way to a joiner, the oldest first", async () => {
  const { peer } = scene();
  const strangers = Array.from({ length: 17 }, peer);
  for (const stranger of strangers) await stranger.openSilent();
  const joiner = peer();
  assert.deepEqual(await joiner.ask(RIGHT), WELCOME);
  assert.deepEqual(await strangers[0]!.closed, [1n, "too many connections"]);
  assert.deepEqual(await strangers[1]!.closed, [1n, "too many connections"]);
  assert.equal(strangers.filter(({ mux }) => mux.isClosed).length, 0); // closed by their owner
  for (const one of [...strangers, joiner]) one.stop();
  assert.deepEqual(await strangers[2]!.closed, [3n, "stopped"]);
  await Promise.all([...strangers, joiner].map(({ closed }) => closed));
});

Deno.test("PairingServer: a stranger that sends no request in time is cut off", async () => {
  const { peer } = scene({ requestTimeoutMs: 5 });
  const stranger = peer();
  await stranger.openSilent();
  assert.deepEqual(await stranger.closed, [4n, "no hello"]);
});

Deno.test("PairingServer: what is no request ends the connection", async () => {
  const { book, peer } = scene();
  const stranger = peer();
  const stream = stranger.connection.openAsPeer();
  await stream.writable.getWriter().write(Uint8Array.of(StreamType.PAIR, 1, 0, 1, 0));
  assert.deepEqual(await stranger.closed, [4n, "against the protocol"]);
  assert.deepEqual(book.keys, []);
});

Deno.test("PairingServer: a peer that does not end its stream does not hold it for ever", async () => {
  const { peer } = scene({ endTimeoutMs: 5 });
  const joiner = peer();
  const stream = joiner.connection.openAsPeer();
  await sendRequest(stream, { kind: "join", secret: RIGHT, name: "ann" });
  assert.deepEqual(await readAnswer(stream), WELCOME);
  while (joiner.mux.idleSince === undefined) await new Promise((next) => setTimeout(next, 1));
  joiner.stop();
  await joiner.closed;
});

Deno.test("PairingServer: a peer that takes no answer ends its connection", async () => {
  const { server, peer } = scene({ endTimeoutMs: 5 });
  for (const secret of [WRONG, RIGHT]) {
    const stranger = peer(), [near, far] = pipe();
    await sendRequest(near, { kind: "join", secret, name: "eve" });
    await readStreamHeader(far);
    const blocked = new WritableStream<Uint8Array>({ write: () => new Promise(() => {}) });
    const { signal } = new AbortController();
    await assert.rejects(
      server.serve({ readable: far.readable, writable: blocked }, stranger.mux, signal),
      { name: "IdleTimeout" },
    );
    stranger.stop();
    await stranger.closed;
  }
});

Deno.test("MuxConnection: without a pairing server, a joiner's stream is unsupported", async () => {
  const connection = new MemoryConnection(), stopped = new AbortController();
  const mux = new MuxConnection(connection.asConnection, {
    isDialed: false,
    bind: undefined,
    serve: () => Promise.resolve(),
  });
  const serving = mux.serve(stopped.signal);
  const stream = connection.openAsPeer();
  await sendRequest(stream, { kind: "join", secret: RIGHT, name: "ann" });
  await assert.rejects(readAnswer(stream), { code: 7n });
  stopped.abort(new Error("stopped"));
  await assert.rejects(serving, /stopped/);
});
