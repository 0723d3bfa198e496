import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { StripedReader, StripedWriter } from "./stripes.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Gives up some turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setTimeout(resolve, 0));
}

/** Streams as a QUIC connection has them: they come in the order in which they were opened. */
class Streams {
  opened = 0;
  readonly writers: WritableStreamDefaultWriter<Bytes>[] = [];
  readonly #accepting = new TransformStream<ReadableStream<Bytes>>(undefined, undefined, {
    highWaterMark: Infinity,
  });
  readonly #opening = this.#accepting.writable.getWriter();
  readonly #accepted = this.#accepting.readable.getReader();

  /** @param slow How slow the next piece is. */
  constructor(readonly slow: () => number) {}

  open = async (): Promise<WritableStream<Uint8Array>> => {
    this.opened++;
    const { slow } = this;
    const { readable, writable } = new TransformStream<Bytes, Bytes>();
    this.writers.push(writable.getWriter());
    const reader = readable.getReader(), writer = this.writers.at(-1)!;
    await this.#opening.write(
      new ReadableStream<Bytes>({
        type: "bytes",
        async pull(controller) {
          const { value, done } = await reader.read();
          await turns(slow());
          if (!done) return controller.enqueue(value);
          controller.close();
          (controller as ReadableByteStreamController).byobRequest?.respond(0);
        },
      }),
    );
    return new WritableStream({ write: (chunk) => writer.write(Uint8Array.from(chunk)) });
  };

  accept = async (): Promise<ReadableStream<Bytes> | undefined> =>
    (await this.#accepted.read()).value;

  /** No stream comes any more, and those that came end. */
  async end(): Promise<void> {
    await Promise.all([this.#opening.close(), ...this.writers.map((writer) => writer.close())]);
  }
}

Deno.test("stripes: what goes in comes out, in order, whatever the pieces and their delays", async () => {
  const sizes = fc.array(
    fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: 0, max: 1_500_000 })),
    { maxLength: 6 },
  );
  await fc.assert(
    fc.asyncProperty(sizes, fc.infiniteStream(fc.nat(3)), async (sizes, delays) => {
      const streams = new Streams(() => delays.next().value!);
      const total = sizes.reduce((sum, size) => sum + size, 0);
      const data = Buffer.allocUnsafe(total);
      for (let i = 0; i + 4 <= total; i += 4) data.writeUInt32LE(i, i); // each place another
      const writer = new StripedWriter(streams.open), reader = new StripedReader(streams.accept);
      const reading = (async () => {
        let at = 0;
        for (let piece; (piece = await reader.read());) {
          assert(piece.length > 0);
          assert.equal(Buffer.compare(piece, data.subarray(at, at + piece.length)), 0, `at ${at}`);
          at += piece.length;
        }
        return at;
      })();
      let at = 0;
      for (const size of sizes) {
        const lent = Buffer.from(data.subarray(at, at += size));
        await writer.write(lent);
        lent.fill(0); // it may be changed
      }
      await streams.end();
      assert.equal(await reading, total);
    }),
    { numRuns: 60 },
  );
});

Deno.test("stripes: a long transfer uses several streams, a short one a single one", async () => {
  const streams = new Streams(() => 0);
  const writer = new StripedWriter(streams.open), reader = new StripedReader(streams.accept);
  const reading = (async () => {
    let length = 0;
    for (let piece; (piece = await reader.read());) length += piece.length;
    return length;
  })();
  await writer.write(new Uint8Array(1000));
  assert.equal(streams.opened, 1);
  await writer.write(new Uint8Array(5_000_000));
  assert.equal(streams.opened, 4);
  await streams.end();
  assert.equal(await reading, 5_001_000);
});

Deno.test("stripes: what ends a stream ends the reading, what breaks one the writing", async () => {
  const streams = new Streams(() => 0);
  const writer = new StripedWriter(streams.open), reader = new StripedReader(streams.accept);
  const writing = writer.write(new Uint8Array(10));
  assert.equal((await reader.read())!.length, 10);
  await writing;
  await streams.writers[0]!.abort(new Error("cut"));
  await assert.rejects(writer.write(new Uint8Array(10)), /cut/);
  await assert.rejects(reader.read(), /cut/);
});
