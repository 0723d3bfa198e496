import assert from "node:assert/strict";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { type PooledStream, ReplayStream } from "./replay_stream.ts";

const LOST = new StreamError("lost", "gone");

/** A session and its connection, both faked. */
class Fake {
  readonly closedError: Promise<StreamError>;
  readonly roundTripMs = 0;
  packetsReceived = 0;
  readonly sent: Uint8Array[] = [];
  isDisposed = false;
  readonly pooled: PooledStream;
  readonly lose: () => void;
  #incoming!: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;

  constructor() {
    const { promise: closed, resolve } = Promise.withResolvers<StreamError>();
    this.closedError = closed;
    this.lose = () => resolve(LOST);
    const stream: Duplex = {
      readable: new ReadableStream({ start: (controller) => void (this.#incoming = controller) }),
      writable: new WritableStream({ write: (chunk) => void this.sent.push(chunk) }),
    };
    const session = { stream, [Symbol.dispose]: () => void (this.isDisposed = true) };
    this.pooled = { mux: { connection: this }, session } as unknown as PooledStream;
  }

  /** Sends as the peer. */
  answer(text: string): void {
    this.packetsReceived++;
    this.#incoming.enqueue(new TextEncoder().encode(text));
  }

  /** Makes the stream fail; the connection goes on. */
  fail(): void {
    this.#incoming.error(LOST);
  }

  end(): void {
    this.lose();
    this.fail();
  }
}

/** A replay stream on a first connection, with a second one to dial. */
function makeReplay() {
  const first = new Fake(), second = new Fake();
  let dialed = 0;
  const reopen = () => {
    dialed++;
    return Promise.resolve(second.pooled);
  };
  const stream = new ReplayStream(first.pooled, reopen, () => false);
  const writer = stream.writable.getWriter(), reader = stream.readable.getReader();
  return {
    first,
    second,
    dialed: () => dialed,
    confirmed: stream.confirmed,
    say: (text: string) => writer.write(new TextEncoder().encode(text)),
    hear: async () => new TextDecoder().decode((await reader.read()).value),
  };
}

function text(chunks: readonly Uint8Array[]): string {
  return chunks.map((chunk) => new TextDecoder().decode(chunk)).join("");
}

Deno.test("ReplayStream stays on a connection on which the peer answers", async () => {
  const { first, dialed, confirmed, say, hear } = makeReplay();
  await say("one ");
  first.answer("yes");
  assert.equal(await hear(), "yes");
  assert.equal(await confirmed, first.pooled);
  await say("two");
  assert.equal(text(first.sent), "one two");
  assert.equal(dialed(), 0);
});

Deno.test("ReplayStream is confirmed by a read before its next look at the connection", async () => {
  const { first, confirmed } = makeReplay();
  await Promise.resolve(); // the first look
  first.answer("yes");
  const soon = new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(await Promise.race([confirmed, soon]), first.pooled);
  await soon;
});

Deno.test("ReplayStream keeps an answer that arrives as the connection ends", async () => {
  const { first, dialed, confirmed, say, hear } = makeReplay();
  await say("one");
  first.answer("yes");
  first.lose();
  assert.equal(await confirmed, first.pooled);
  assert.equal(await hear(), "yes");
  assert.equal(dialed(), 0);
});

Deno.test("ReplayStream replays its buffer once if the connection has ended", async () => {
  const { first, second, dialed, confirmed, say, hear } = makeReplay();
  await say("one ");
  first.end();
  assert.equal(await confirmed, second.pooled);
  await say("two");
  second.answer("yes");
  assert.equal(await hear(), "yes");
  assert.equal(text(second.sent), "one two");
  assert.equal(dialed(), 1);
  assert(first.isDisposed);
});

Deno.test("ReplayStream replays its buffer if the peer does not answer in time", async () => {
  const { second, dialed, confirmed, say } = makeReplay();
  await say("one");
  assert.equal(await confirmed, second.pooled);
  assert.equal(text(second.sent), "one");
  assert.equal(dialed(), 1);
});

Deno.test("ReplayStream does not dial again if the peer gives up the stream", async () => {
  const { first, dialed, confirmed, hear } = makeReplay();
  first.packetsReceived++;
  first.fail();
  assert.equal(await confirmed, first.pooled);
  await assert.rejects(hear(), LOST);
  assert.equal(dialed(), 0);
});
