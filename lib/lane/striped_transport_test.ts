import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { StripedTransport } from "./striped_transport.ts";
import type { Transport } from "./lane.ts";
import { eventLoopTurns } from "../../tests/event_loop.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** One connection, whose bytes come out where they went in. */
class Member implements Transport {
  readonly kind = "QUIC";
  readonly remote: string;
  /** Bytes that it has been given. */
  written = 0;
  isClosed = false;
  #waiting: Uint8Array[] = [];
  #ended = false;
  #error: Error | undefined;
  #changed = Promise.withResolvers<void>();
  /** What the last read gave: not valid any more after the next call. */
  #lent: Bytes | undefined;
  #slow: () => number;

  /** @param slow How slow the next piece is. */
  constructor(remote: string, slow: () => number) {
    this.remote = remote;
    this.#slow = slow;
  }

  async read(): Promise<Bytes | undefined> {
    this.#lent?.fill(0xee);
    while (this.#waiting.length === 0 && !this.#ended && !this.#error) await this.#changed.promise;
    await eventLoopTurns(this.#slow()); // more may come meanwhile, and joins what is there
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

function membersOf(
  count: number,
  slow: () => number = () => 0,
): [[Member, ...Member[]], { writer: StripedTransport; reader: StripedTransport }] {
  const members = Array.from({ length: count }, (_, i) => new Member(`remote ${i}`, slow)) as [
    Member,
    ...Member[],
  ];
  return [members, {
    writer: new StripedTransport(members),
    reader: new StripedTransport(members),
  }];
}

Deno.test("bundle: what goes in comes out, in order, whatever the pieces and their delays", async () => {
  const sizes = fc.array(
    fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: 0, max: 1_500_000 })),
    { maxLength: 6 },
  );
  const counts = fc.integer({ min: 1, max: 9 });
  await fc.assert(
    fc.asyncProperty(counts, sizes, fc.infiniteStream(fc.nat(3)), async (count, sizes, delays) => {
      const [members, { writer, reader }] = membersOf(count, () => delays.next().value!);
      const total = sizes.reduce((sum, size) => sum + size, 0);
      const data = Buffer.allocUnsafe(total);
      for (let i = 0; i + 4 <= total; i += 4) data.writeUInt32LE(i, i); // each place another
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
      for (const member of members) member.end();
      assert.equal(await reading, total);
    }),
    { numRuns: 60 },
  );
});

Deno.test("bundle: 256 KiB go by each connection in turn", async () => {
  const [members, { writer }] = membersOf(3);
  const written = () => members.map(({ written }) => written);
  await writer.write(new Uint8Array(1000));
  assert.deepEqual(written(), [1000, 0, 0]);
  await writer.write(new Uint8Array(262_144 - 1000));
  assert.deepEqual(written(), [262_144, 0, 0]);
  await writer.write(new Uint8Array(1));
  assert.deepEqual(written(), [262_144, 1, 0]);
  await writer.write(new Uint8Array(3 * 262_144));
  assert.deepEqual(written(), [2 * 262_144, 262_145, 262_144]);
});

Deno.test("bundle: the end of a connection is the end of all, after what came before", async () => {
  const [members, { writer, reader }] = membersOf(2);
  await writer.write(new Uint8Array(300_000));
  members[1]!.end();
  let length = 0;
  for (let piece; (piece = await reader.read());) length += piece.length;
  assert.equal(length, 300_000);
});

Deno.test("bundle: what breaks a connection breaks writing and reading", async () => {
  const [members, { writer, reader }] = membersOf(2);
  await writer.write(new Uint8Array(10));
  assert.equal((await reader.read())!.length, 10);
  members[0].cut();
  await assert.rejects(writer.write(new Uint8Array(10)), /cut/);
  await assert.rejects(reader.read(), /cut/);
});

Deno.test("bundle: it is where the first is, and all are closed together", () => {
  const [members, { writer }] = membersOf(3);
  assert.equal(writer.kind, "QUIC");
  assert.equal(writer.remote, "remote 0");
  writer.close();
  assert(members.every(({ isClosed }) => isClosed));
});
