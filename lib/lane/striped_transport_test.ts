import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { StripedTransport } from "./striped_transport.ts";
import type { Transport } from "./lane.ts";
import { eventLoopTurns } from "../../tests/event_loop.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** A connection in memory. Its reads return what was written to it. */
class Stripe implements Transport {
  readonly kind = "QUIC";
  readonly remote: string;
  /** Number of bytes written. */
  written = 0;
  isClosed = false;
  #waiting: Uint8Array[] = [];
  #ended = false;
  #error: Error | undefined;
  #changed = Promise.withResolvers<void>();
  /** What the last read returned, which is valid until the next one. */
  #lent: Bytes | undefined;
  #slow: () => number;

  /** @param slow Returns for how many turns of the event loop the next piece waits. */
  constructor(remote: string, slow: () => number) {
    this.remote = remote;
    this.#slow = slow;
  }

  async read(): Promise<Bytes | undefined> {
    this.#lent?.fill(0xee);
    while (this.#waiting.length === 0 && !this.#ended && !this.#error) await this.#changed.promise;
    await eventLoopTurns(this.#slow()); // what comes meanwhile joins the piece
    if (this.#error) throw this.#error;
    if (this.#waiting.length === 0) return undefined;
    return this.#lent = Uint8Array.from(Buffer.concat(this.#waiting.splice(0)));
  }

  async write(bytes: Uint8Array): Promise<void> {
    await eventLoopTurns(this.#slow());
    if (this.#error) throw this.#error;
    this.written += bytes.length;
    this.#waiting.push(Uint8Array.from(bytes));
    this.#change();
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  end(): void {
    this.#ended = true;
    this.#change();
  }

  cut(): void {
    this.#error = new Error("cut");
    this.#change();
  }

  close(): void {
    this.isClosed = true;
  }
}

function stripesOf(
  count: number,
  slow: () => number = () => 0,
): [[Stripe, ...Stripe[]], { writer: StripedTransport; reader: StripedTransport }] {
  const stripes = Array.from({ length: count }, (_, i) => new Stripe(`remote ${i}`, slow)) as [
    Stripe,
    ...Stripe[],
  ];
  return [stripes, {
    writer: new StripedTransport(stripes),
    reader: new StripedTransport(stripes),
  }];
}

Deno.test("StripedTransport: keeps all bytes in order, whatever the pieces and their delays", async () => {
  const sizes = fc.array(
    fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: 0, max: 1_500_000 })),
    { maxLength: 6 },
  );
  const counts = fc.integer({ min: 1, max: 9 });
  await fc.assert(
    fc.asyncProperty(counts, sizes, fc.infiniteStream(fc.nat(3)), async (count, sizes, delays) => {
      const [stripes, { writer, reader }] = stripesOf(count, () => delays.next().value!);
      const total = sizes.reduce((sum, size) => sum + size, 0);
      const data = Buffer.allocUnsafe(total);
      for (let i = 0; i + 4 <= total; i += 4) data.writeUInt32LE(i, i); // different at each offset
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
        lent.fill(0); // the caller may change it
      }
      for (const stripe of stripes) stripe.end();
      assert.equal(await reading, total);
    }),
    { numRuns: 60 },
  );
});

Deno.test("StripedTransport: sends 256 KiB on each connection in turn", async () => {
  const [stripes, { writer }] = stripesOf(3);
  const written = () => stripes.map(({ written }) => written);
  await writer.write(new Uint8Array(1000));
  assert.deepEqual(written(), [1000, 0, 0]);
  await writer.write(new Uint8Array(262_144 - 1000));
  assert.deepEqual(written(), [262_144, 0, 0]);
  await writer.write(new Uint8Array(1));
  assert.deepEqual(written(), [262_144, 1, 0]);
  await writer.write(new Uint8Array(3 * 262_144));
  assert.deepEqual(written(), [2 * 262_144, 262_145, 262_144]);
});

Deno.test("StripedTransport: ends when one connection ends, after the bytes before that", async () => {
  const [stripes, { writer, reader }] = stripesOf(2);
  await writer.write(new Uint8Array(300_000));
  stripes[1]!.end();
  let length = 0;
  for (let piece; (piece = await reader.read());) length += piece.length;
  assert.equal(length, 300_000);
});

Deno.test("StripedTransport: fails to read and write once one connection is broken", async () => {
  const [stripes, { writer, reader }] = stripesOf(2);
  await writer.write(new Uint8Array(10));
  assert.equal((await reader.read())!.length, 10);
  stripes[0].cut();
  await assert.rejects(writer.write(new Uint8Array(10)), /cut/);
  await assert.rejects(reader.read(), /cut/);
});

Deno.test("StripedTransport: has the remote address of the first, and closes all", () => {
  const [stripes, { writer }] = stripesOf(3);
  assert.equal(writer.kind, "QUIC");
  assert.equal(writer.remote, "remote 0");
  writer.close();
  assert(stripes.every(({ isClosed }) => isClosed));
});
