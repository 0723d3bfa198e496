import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { type Duplex, StreamError } from "./duplex.ts";
import { splice } from "./splice.ts";
import { UnixSocket } from "../platform/unix_socket.ts";

/** Gives up so many turns of the event loop, without the millisecond that a timer takes at least. */
async function eventLoopTurns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await setImmediate();
}

/** Returns both ends of an in-memory stream. */
function pipe(): [Duplex, Duplex] {
  const there = new TransformStream<Uint8Array, Uint8Array<ArrayBuffer>>();
  const back = new TransformStream<Uint8Array, Uint8Array<ArrayBuffer>>();
  return [
    { readable: back.readable, writable: there.writable },
    { readable: there.readable, writable: back.writable },
  ];
}

/** Splices two pipes. Returns their far ends and the result of the splice. */
function spliced(signal?: AbortSignal) {
  const [left, a] = pipe(), [right, b] = pipe();
  return { left, right, end: splice(a, b, signal) };
}

/** What one side of a splice does. */
interface Plan {
  readonly chunks: Uint8Array[];
  /** Turns of the event loop to wait before each write, in rotation. */
  readonly waits: number[];
  /** Chunks after which it aborts its direction; undefined for never. */
  readonly resetAfter: number | undefined;
  /** Turns of the event loop to wait before the end-of-file. */
  readonly endAfter: number;
  /** Turns of the event loop to wait before each read, in rotation. */
  readonly readWaits: number[];
}

const waits = fc.array(fc.nat(2), { minLength: 1, maxLength: 5 });
const chunk = fc.uint8Array({ minLength: 1, maxLength: 300 });
const plan: fc.Arbitrary<Plan> = fc.record({
  chunks: fc.array(chunk, { maxLength: 12 }),
  waits,
  resetAfter: fc.option(fc.nat(12), { nil: undefined, freq: 3 }),
  endAfter: fc.nat(4),
  readWaits: waits,
});
const wholePlan = plan.map((plan) => ({ ...plan, resetAfter: undefined }));

async function write(to: WritableStream<Uint8Array>, plan: Plan): Promise<"ended" | "reset"> {
  const writer = to.getWriter();
  for (const [i, chunk] of plan.chunks.entries()) {
    await eventLoopTurns(plan.waits[i % plan.waits.length]!);
    if (i === plan.resetAfter) {
      await writer.abort(new StreamError("reset", "gave up"));
      return "reset";
    }
    await writer.write(chunk);
  }
  await eventLoopTurns(plan.endAfter);
  await writer.close();
  return "ended";
}

async function read(
  from: ReadableStream<Uint8Array>,
  readWaits: number[],
): Promise<{ bytes: Uint8Array; ended: "ended" | "reset" }> {
  const chunks: Uint8Array[] = [];
  const reader = from.getReader();
  try {
    for (let i = 0;; i++) {
      await eventLoopTurns(readWaits[i % readWaits.length]!);
      const { value, done } = await reader.read();
      if (done) return { bytes: join(chunks), ended: "ended" };
      chunks.push(value);
    }
  } catch {
    return { bytes: join(chunks), ended: "reset" };
  }
}

function join(chunks: Uint8Array[]): Uint8Array {
  return new Uint8Array(chunks.flatMap((chunk) => [...chunk]));
}

Deno.test("splice() copies both directions at once", async () => {
  await fc.assert(
    fc.asyncProperty(wholePlan, wholePlan, async (l, r) => {
      const { left, right, end } = spliced();
      const [atRight, atLeft] = await Promise.all([
        read(right.readable, r.readWaits),
        read(left.readable, l.readWaits),
        write(left.writable, l),
        write(right.writable, r),
      ]);
      assert.deepEqual(atRight, { bytes: join(l.chunks), ended: "ended" });
      assert.deepEqual(atLeft, { bytes: join(r.chunks), ended: "ended" });
      assert.deepEqual(await end, { aToB: {}, bToA: {} });
    }),
    { numRuns: 150 },
  );
});

Deno.test("splice() passes on the abort of one direction, and the other goes on", async () => {
  await fc.assert(
    fc.asyncProperty(plan, wholePlan, async (l, r) => {
      const { left, right, end } = spliced();
      const [atRight, atLeft, wrote] = await Promise.all([
        read(right.readable, r.readWaits),
        read(left.readable, l.readWaits),
        write(left.writable, l),
        write(right.writable, r),
      ]);
      assert.deepEqual(atLeft, { bytes: join(r.chunks), ended: "ended" });
      assert.equal(atRight.ended, wrote);
      const sent = join(l.chunks);
      assert.deepEqual(atRight.bytes, sent.subarray(0, atRight.bytes.length));
      if (wrote === "ended") assert.equal(atRight.bytes.length, sent.length);
      const { aToB, bToA } = await end;
      assert.equal(aToB.error instanceof StreamError, wrote === "reset");
      assert.deepEqual(bToA, {});
    }),
    { numRuns: 150 },
  );
});

Deno.test("splice() cancels a side at once if the other side reads no further", async () => {
  const { left, right, end } = spliced();
  const writer = left.writable.getWriter();
  await right.readable.cancel(new StreamError("closed", "enough"));
  await assert.rejects(writer.closed, { message: "enough" }); // although nothing was written
  await right.writable.close();
  assert.deepEqual(await read(left.readable, [0]), { bytes: new Uint8Array(), ended: "ended" });
  const { aToB, bToA } = await end;
  assert.match(String(aToB.error), /enough/);
  assert.deepEqual(bToA, {});
});

Deno.test("splice() gives up both directions on a signal", async () => {
  const controller = new AbortController();
  const { left, right, end } = spliced(controller.signal);
  controller.abort(new Error("stop"));
  const { aToB, bToA } = await end;
  assert.deepEqual([String(aToB.error), String(bToA.error)], ["Error: stop", "Error: stop"]);
  assert.equal((await read(left.readable, [0])).ended, "reset");
  assert.equal((await read(right.readable, [0])).ended, "reset");
});

Deno.test("splice() takes only a few chunks from a side while the other side does not read", async () => {
  let pulled = 0;
  const source = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      if (pulled++ < 1000) controller.enqueue(new Uint8Array(10));
      else controller.close();
    },
  }, { highWaterMark: 0 });
  const idle = new ReadableStream<Uint8Array<ArrayBuffer>>();
  const [right, b] = pipe();
  const end = splice({ readable: source, writable: new WritableStream() }, {
    readable: idle,
    writable: b.writable,
  });
  await eventLoopTurns(20);
  assert(pulled < 8, `${pulled} chunks`);
  assert.equal((await read(right.readable, [0])).bytes.length, 10_000);
  assert.equal(pulled, 1001);
  void end; // idle never ends
});

Deno.test("splice() writes what it read before a side failed, then aborts the other side", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(chunk, { maxLength: 8 }), waits, async (chunks, writeWaits) => {
      let pulled = 0;
      const failing = new ReadableStream<Uint8Array<ArrayBuffer>>({
        pull(controller) {
          const next = chunks[pulled++];
          if (next) controller.enqueue(Uint8Array.from(next));
          else controller.error(new StreamError("lost", "gone"));
        },
      }, { highWaterMark: 0 }); // so that each chunk comes after it was asked for
      const written: Uint8Array[] = [];
      let abortReason: unknown;
      const slow = new WritableStream<Uint8Array>({
        async write(chunk) {
          await eventLoopTurns(writeWaits[written.length % writeWaits.length]!);
          written.push(chunk);
        },
        abort: (reason) => void (abortReason = reason),
      });
      const [far, near] = pipe();
      await far.writable.close();
      const sink = new WritableStream();
      const { aToB, bToA } = await splice(
        { readable: failing, writable: sink },
        { readable: near.readable, writable: slow },
      );
      assert.deepEqual(join(written), join(chunks));
      assert.deepEqual(
        [String(abortReason), String(aToB.error)],
        Array(2).fill("StreamError: gone"),
      );
      assert.deepEqual(bToA, {});
    }),
    { numRuns: 100 },
  );
});

/** Returns both ends of a unix socket: the program's, and git-annex's. */
async function unixPair(dir: string): Promise<[UnixSocket, Deno.UnixConn]> {
  const path = `${dir}/${crypto.randomUUID().slice(0, 8)}`;
  using listener = Deno.listen({ transport: "unix", path });
  const [ours, theirs] = await Promise.all([UnixSocket.connect(path), listener.accept()]);
  return [ours, theirs as Deno.UnixConn];
}

Deno.test("splice() of real sockets passes on all bytes, in whichever order the ends close", async () => {
  const dir = await Deno.makeTempDir();
  const size = fc.integer({ min: 0, max: 400_000 });
  try {
    await fc.assert(
      fc.asyncProperty(
        size,
        size,
        fc.nat(3),
        fc.nat(3),
        async (forth, back, leftWait, rightWait) => {
          const [a, left] = await unixPair(dir), [b, right] = await unixPair(dir);
          using _a = a, _b = b, _left = left, _right = right;
          const end = splice(a, b);
          const send = async (conn: Deno.UnixConn, length: number, wait: number) => {
            const bytes = patterned(length);
            for (let rest = bytes; rest.length > 0;) {
              rest = rest.subarray(await conn.write(rest.subarray(0, 70_000)));
            }
            await eventLoopTurns(wait);
            await conn.closeWrite();
          };
          const [atRight, atLeft] = await Promise.all([
            read(incoming(right), [0]),
            read(incoming(left), [0]),
            send(left, forth, leftWait),
            send(right, back, rightWait),
          ]);
          assert.deepEqual(atRight, { bytes: patterned(forth), ended: "ended" });
          assert.deepEqual(atLeft, { bytes: patterned(back), ended: "ended" });
          assert.deepEqual(await end, { aToB: {}, bToA: {} });
        },
      ),
      { numRuns: 40 },
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("splice() of real sockets passes on what one side sent before it closed its socket", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 150_000 }),
        fc.boolean(),
        async (length, unread) => {
          const [a, left] = await unixPair(dir), [b, right] = await unixPair(dir);
          using _a = a, _b = b, _right = right;
          const end = splice(a, b);
          if (unread) { // so that closing the socket resets it
            await right.write(new Uint8Array(1000));
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
          const bytes = patterned(length);
          for (let rest = bytes; rest.length > 0;) rest = rest.subarray(await left.write(rest));
          left.close();
          // The right side writes nothing further, so only the close itself can be noticed.
          assert.deepEqual(await read(incoming(right), [0]), { bytes, ended: "ended" });
          const { aToB, bToA } = await end;
          assert.deepEqual(aToB, {});
          assert(bToA.error instanceof StreamError && bToA.error.kind === "closed");
        },
      ),
      { numRuns: 60 },
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("splice() of real sockets notices a side that half-closes its socket and closes it later", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const [a, left] = await unixPair(dir), [b, right] = await unixPair(dir);
    using _a = a, _b = b, _right = right;
    const end = splice(a, b);
    await left.closeWrite();
    assert.deepEqual(await read(incoming(right), [0]), { bytes: new Uint8Array(), ended: "ended" });
    left.close();
    assert((await end).bToA.error instanceof StreamError);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("splice() of real sockets passes on what one side sent, although that side reads no further", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const [a, left] = await unixPair(dir), [b, right] = await unixPair(dir);
    using _a = a, _b = b, _right = right;
    const bytes = patterned(1_000_000); // more than the buffers hold while the right side does not read
    const end = splice(a, b);
    for (let rest = bytes; rest.length > 0;) rest = rest.subarray(await left.write(rest));
    left.close();
    for (let i = 0; i < 4; i++) {
      await right.write(new Uint8Array(100_000)); // is never read, and blocks neither side
      await eventLoopTurns(5);
    }
    const received = await read(incoming(right), [0]);
    assert.equal(received.ended, "ended");
    assert(Buffer.from(bytes).equals(received.bytes), `${received.bytes.length} bytes came`);
    const { aToB, bToA } = await end;
    assert.deepEqual(aToB, {});
    assert(bToA.error instanceof StreamError && bToA.error.kind === "closed");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

/** Returns all data from a socket. Deno's own `readable` would close the socket at the end. */
function incoming(conn: Deno.UnixConn): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({
    async pull(controller) {
      const buffer = new Uint8Array(50_000);
      const length = await conn.read(buffer);
      if (length === null) controller.close();
      else controller.enqueue(buffer.subarray(0, length));
    },
  });
}

/** Returns bytes in which no two parts are alike. */
function patterned(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) * 17 + (i >> 16)) & 0xff;
  return bytes;
}
