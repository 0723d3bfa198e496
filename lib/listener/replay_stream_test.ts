import assert from "node:assert/strict";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { type On, TrialStream } from "./replay_stream.ts";

const LOST = new StreamError("lost", "gone");

/** A session, and the connection it is on; neither of which is there. */
class Fake {
  readonly over: Promise<StreamError>;
  readonly roundTripMs = 0;
  packetsReceived = 0;
  readonly sent: Uint8Array[] = [];
  isDisposed = false;
  readonly on: On;
  readonly lose: () => void;
  #incoming!: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<StreamError>();
    this.over = promise;
    this.lose = () => resolve(LOST);
    const stream: Duplex = {
      readable: new ReadableStream({ start: (controller) => void (this.#incoming = controller) }),
      writable: new WritableStream({ write: (chunk) => void this.sent.push(chunk) }),
    };
    const session = { stream, [Symbol.dispose]: () => void (this.isDisposed = true) };
    this.on = { own: { connection: this }, session } as unknown as On;
  }

  /** Something comes from the peer. */
  answer(text: string): void {
    this.packetsReceived++;
    this.#incoming.enqueue(new TextEncoder().encode(text));
  }

  /** The stream fails; the connection need not. */
  fail(): void {
    this.#incoming.error(LOST);
  }

  end(): void {
    this.lose();
    this.fail();
  }
}

/** A trial of the first one, with the second to come after it. */
function trial() {
  const first = new Fake(), second = new Fake();
  let dialed = 0;
  const again = () => {
    dialed++;
    return Promise.resolve(second.on);
  };
  const stream = new TrialStream(first.on, again, () => false);
  const writer = stream.writable.getWriter(), reader = stream.readable.getReader();
  return {
    first,
    second,
    dialed: () => dialed,
    settled: stream.settled,
    say: (text: string) => writer.write(new TextEncoder().encode(text)),
    hear: async () => new TextDecoder().decode((await reader.read()).value),
  };
}

function text(chunks: readonly Uint8Array[]): string {
  return chunks.map((chunk) => new TextDecoder().decode(chunk)).join("");
}

Deno.test("TrialStream stays where the peer answers, and passes on what it says", async () => {
  const { first, dialed, settled, say, hear } = trial();
  await say("one ");
  first.answer("yes");
  assert.equal(await hear(), "yes");
  assert.equal(await settled, first.on);
  await say("two");
  assert.equal(text(first.sent), "one two");
  assert.equal(dialed(), 0);
});

Deno.test("TrialStream does not wait for its next look at the connection", async () => {
  const { first, settled } = trial();
  await Promise.resolve(); // its first look is over
  first.answer("yes");
  const soon = new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(await Promise.race([settled, soon]), first.on);
  await soon;
});

Deno.test("TrialStream: what was heard counts, though the connection ends with it", async () => {
  const { first, dialed, settled, say, hear } = trial();
  await say("one");
  first.answer("yes");
  first.lose();
  assert.equal(await settled, first.on);
  assert.equal(await hear(), "yes");
  assert.equal(dialed(), 0);
});

Deno.test("TrialStream says the same again, once, where the connection has ended", async () => {
  const { first, second, dialed, settled, say, hear } = trial();
  await say("one ");
  first.end();
  assert.equal(await settled, second.on);
  await say("two");
  second.answer("yes");
  assert.equal(await hear(), "yes");
  assert.equal(text(second.sent), "one two");
  assert.equal(dialed(), 1);
  assert(first.isDisposed);
});

Deno.test("TrialStream does so where nothing comes, too", async () => {
  const { second, dialed, settled, say } = trial();
  await say("one");
  assert.equal(await settled, second.on);
  assert.equal(text(second.sent), "one");
  assert.equal(dialed(), 1);
});

Deno.test("TrialStream: a stream that the peer gives up is no sign that it is away", async () => {
  const { first, dialed, settled, hear } = trial();
  first.packetsReceived++;
  first.fail();
  assert.equal(await settled, first.on);
  await assert.rejects(hear(), LOST);
  assert.equal(dialed(), 0);
});
