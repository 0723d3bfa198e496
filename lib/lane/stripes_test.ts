import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { StripedReader, StripedWriter } from "./stripes.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Gives up some turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setTimeout(resolve, 0));
}

/** Streams as a QUIC connection has them: they come in the order opened, and their bytes as one. */
class Streams {
  /** Bytes that each has been given. */
  readonly written: number[] = [];
  readonly #ends: { close(): void; abort(error: Error): void }[] = [];
  readonly #accepting = new TransformStream<ReadableStream<Bytes>>(undefined, undefined, {
    highWaterMark: Infinity,
  });
  readonly #opening = this.#accepting.writable.getWriter();
  readonly #accepted = this.#accepting.readable.getReader();

  /** @param slow How slow the next piece is. */
  constructor(readonly slow: () => number) {}

  open = async (): Promise<WritableStream<Uint8Array>> => {
    const { slow, written } = this, index = written.push(0) - 1;
    const waiting: Uint8Array[] = [];
    let ended = false, changed = Promise.withResolvers<void>();
    const change = () => {
      changed.resolve();
      changed = Promise.withResolvers();
    };
    let abort: (error: Error) => void;
    const readable = new ReadableStream<Bytes>({
      type: "bytes",
      start(controller) {
        abort = (error) => controller.error(error);
      },
      async pull(controller) {
        while (waiting.length === 0 && !ended) await changed.promise;
        await turns(slow()); // more may come meanwhile, and joins what is there
        if (waiting.length > 0) {
          return controller.enqueue(Uint8Array.from(Buffer.concat(waiting.splice(0))));
        }
        controller.close();
        (controller as ReadableByteStreamController).byobRequest?.respond(0);
      },
    });
    let broken: Error | undefined;
    this.#ends.push({
      close() {
        ended = true;
        change();
      },
      abort(error) {
        broken = error;
        abort(error);
      },
    });
    await this.#opening.write(readable);
    return new WritableStream({
      write(chunk) {
        if (broken) throw broken;
        written[index]! += chunk.length;
        waiting.push(Uint8Array.from(chunk));
        change();
      },
    });
  };

  accept = async (): Promise<ReadableStream<Bytes> | undefined> =>
    (await this.#accepted.read()).value;

  end(index: number): void {
    this.#ends[index]!.close();
  }

  cut(index: number): void {
    this.#ends[index]!.abort(new Error("cut"));
  }

  /** No stream comes any more, and those that came end. */
  async endAll(): Promise<void> {
    for (const end of this.#ends) end.close();
    await this.#opening.close();
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
      await streams.endAll();
      assert.equal(await reading, total);
    }),
    { numRuns: 60 },
  );
});

Deno.test("stripes: 256 KiB go on each of three streams in turn, opened when they are needed", async () => {
  const streams = new Streams(() => 0), writer = new StripedWriter(streams.open);
  await writer.write(new Uint8Array(1000));
  assert.deepEqual(streams.written, [1000]);
  await writer.write(new Uint8Array(262_144 - 1000));
  assert.deepEqual(streams.written, [262_144]);
  await writer.write(new Uint8Array(1));
  assert.deepEqual(streams.written, [262_144, 1]);
  await writer.write(new Uint8Array(3 * 262_144));
  assert.deepEqual(streams.written, [2 * 262_144, 262_145, 262_144]);
});

Deno.test("stripes: the end of a stream is the end of all, after what came before", async () => {
  const streams = new Streams(() => 0);
  const writer = new StripedWriter(streams.open), reader = new StripedReader(streams.accept);
  await writer.write(new Uint8Array(300_000));
  streams.end(1);
  let length = 0;
  for (let piece; (piece = await reader.read());) length += piece.length;
  assert.equal(length, 300_000);
});

Deno.test("stripes: what breaks a stream breaks writing and reading", async () => {
  const streams = new Streams(() => 0);
  const writer = new StripedWriter(streams.open), reader = new StripedReader(streams.accept);
  await writer.write(new Uint8Array(10));
  assert.equal((await reader.read())!.length, 10);
  streams.cut(0);
  await assert.rejects(writer.write(new Uint8Array(10)), /cut/);
  await assert.rejects(reader.read(), /cut/);
});
