import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { Bundle } from "./bundle.ts";
import { Candidate } from "./candidate.ts";
import { type Certificate, makeCertificate } from "./certificate.ts";
import { LaneError, type Transport } from "./lane.ts";
import { widen } from "./widening.ts";

type Bytes = Uint8Array<ArrayBuffer>;

const never = new AbortController().signal;

/** One end of a connection in memory. */
interface End extends Transport {
  isClosed: boolean;
}

/** A connection in memory, as if to this host. @param change What is done to what the first end says. */
function connection(change: (bytes: Bytes) => Bytes = (bytes) => bytes): [End, End] {
  const there = new TransformStream<Bytes, Bytes>(), back = new TransformStream<Bytes, Bytes>();
  const end = (
    readable: ReadableStream<Bytes>,
    writable: WritableStream<Bytes>,
    change: (bytes: Bytes) => Bytes,
  ): End => {
    const reader = readable.getReader(), writer = writable.getWriter();
    return {
      kind: "QUIC",
      remote: "127.0.0.1:1",
      isClosed: false,
      read: async () => (await reader.read()).value,
      write(bytes) {
        writer.write(change(Uint8Array.from(bytes))).catch(() => {}); // whoever reads is told
        return Promise.resolve();
      },
      close() {
        this.isClosed = true;
        reader.cancel().catch(() => {});
        writer.abort(new Error("closed")).catch(() => {});
      },
    };
  };
  return [end(back.readable, there.writable, change), end(there.readable, back.writable, (b) => b)];
}

/** Two ends that know each other, on a connection that has been chosen. */
async function ends([a, b] = connection()) {
  const secret = new Uint8Array(32);
  const candidates = Promise.all([
    Candidate.greet(a, secret, never),
    Candidate.admit(b, secret, never),
  ]);
  const certificates = await Promise.all([makeCertificate(), makeCertificate()]);
  const secrets = [randomBytes(32), randomBytes(32)];
  const ends = (await candidates).map((first, i) => {
    const theirs = { certificate: certificates[1 - i]!.der, secret: secrets[1 - i]! };
    return {
      first,
      widen: (chooses: boolean, signal = never, certificate: Certificate = certificates[i]!) =>
        widen(first, certificate, { own: secrets[i]!, theirs }, chooses, signal),
    };
  });
  return { a: ends[0]!, b: ends[1]!, secrets };
}

async function take(transport: Transport, length: number): Promise<Bytes> {
  const pieces: Bytes[] = [];
  for (let left = length; left > 0; left -= pieces.at(-1)!.length) {
    const piece = await transport.read();
    assert(piece && piece.length <= left);
    pieces.push(piece.slice());
  }
  return Buffer.concat(pieces);
}

/** Bytes go there and back; both ends are closed then. */
async function assertCarries([a, b]: readonly [Transport, Transport]): Promise<void> {
  const data = randomBytes(3_000_000);
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const [taken] = await Promise.all([take(to, data.length), from.write(data)]);
    assert.equal(Buffer.compare(taken, data), 0);
  }
  a.close();
  b.close();
}

/** UDP sockets of this process. */
async function sockets(): Promise<number> {
  const names = (await Array.fromAsync(Deno.readDir("/proc/self/fd"))).map(({ name }) =>
    Deno.readLink(`/proc/self/fd/${name}`).catch(() => "")
  );
  const own = new Set(
    (await Promise.all(names)).map((name) => name.match(/^socket:\[(\d+)\]/)?.[1]),
  );
  const lines = (await Deno.readTextFile("/proc/self/net/udp")).trim().split("\n").slice(1);
  return lines.filter((line) => own.has(line.trim().split(/\s+/)[9])).length;
}

/** Deno closes them when it has collected what they belong to. */
async function onlySockets(count: number): Promise<void> {
  const deadline = performance.now() + 40_000;
  while (await sockets() > count) {
    assert(performance.now() < deadline);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

Deno.test("widen: three more connections, each with a socket of its own at either end", async () => {
  const before = await sockets();
  await (async () => {
    const { a, b } = await ends();
    const wide = await Promise.all([a.widen(true), b.widen(false)]);
    assert.equal(await sockets(), before + 6);
    await assertCarries(wide);
  })(); // which holds nothing any more when it is through
  await onlySockets(before);
});

Deno.test("widen: what does not get through is not used", async () => {
  // Of three ports the other end hears two that are right.
  const others = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const { port } = others.addr as Deno.NetAddr;
  const wrong = [port >> 8, port & 0xff];
  let isFirst = true;
  const { a, b } = await ends(connection((bytes) => {
    if (bytes.length !== 7 || !isFirst) return bytes;
    isFirst = false;
    return Uint8Array.from([...bytes.subarray(0, 3), ...wrong, ...bytes.subarray(5)]);
  }));
  // Nor does the end with those ports get through by itself.
  const other = await makeCertificate();
  const wide = await Promise.all([a.widen(true, never), b.widen(false, never, other)]);
  others.close();
  assert(!isFirst);
  assert(wide.every((transport) => transport instanceof Bundle));
  await assertCarries(wide);
});

Deno.test("widen: an end that wants none has the first alone", async () => {
  const { a, b } = await ends();
  const widened = a.widen(true);
  await b.first.write(Uint8Array.of(0));
  assert.equal((await b.first.take(7))[0], 3);
  assert.deepEqual(await b.first.take(1), Uint8Array.of(0));
  assert.equal(await widened, a.first);
});

Deno.test("widen: what is against the protocol ends it", async () => {
  for (
    const [chooses, said, error] of [
      [true, [9], /9 more ports/],
      [false, [0, 1], /connections that there are not/],
      [false, [1, 0, 0, 1], /connections that there are not/],
      [false, [4, 0, 1, 0, 1, 0, 1, 0, 1, 8], /connections that there are not/],
    ] as const
  ) {
    const both = connection();
    const { a, b } = await ends(both);
    const widened = a.widen(chooses);
    await b.first.write(Uint8Array.from(said));
    await assert.rejects(
      widened,
      (thrown) => thrown instanceof LaneError && error.test(thrown.message),
    );
    assert(both[0].isClosed);
  }
});

Deno.test("widen: it can be given up, and leaves no socket open", async () => {
  const before = await sockets();
  const both = connection();
  const { a } = await ends(both);
  const controller = new AbortController();
  const widened = a.widen(true, controller.signal);
  assert.equal(await sockets(), before + 3);
  controller.abort(new Error("given up"));
  await assert.rejects(widened, /given up/);
  assert(both[0].isClosed);
  await onlySockets(before);
});
