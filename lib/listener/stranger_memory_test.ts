import assert from "node:assert/strict";
import type { Connection } from "../iroh/connection.ts";
import { STRANGER_MEMORY_LIMITS, StrangerMemory } from "./stranger_memory.ts";

const { maxWaitingBytes: MAX } = STRANGER_MEMORY_LIMITS;

/** A stranger that has sent these bytes. `closed` resolves with the code that its connection is closed with. */
function stranger(memory: StrangerMemory, packetBytesReceived: number) {
  const { promise: closed, resolve } = Promise.withResolvers<bigint>();
  const connection = { packetBytesReceived, close: (code: bigint) => resolve(code) };
  const reasons: string[] = [];
  const onExceeded = ({ message }: Error) => reasons.push(message);
  const bytes = memory.count(connection as unknown as Connection, onExceeded);
  return { connection, closed, reasons, bytes, [Symbol.dispose]: () => bytes[Symbol.dispose]() };
}

/** Waits for some looks. @returns The close codes of the strangers, undefined for those that stay. */
async function codesOf(
  ...strangers: { closed: Promise<bigint> }[]
): Promise<(bigint | undefined)[]> {
  await new Promise((resolve) => setTimeout(resolve, 10));
  return await Promise.all(strangers.map(({ closed }) => Promise.race([closed, undefined])));
}

Deno.test("StrangerMemory closes the connection that has the most, and tells it once", async () => {
  const memory = new StrangerMemory({ lookIntervalMs: 1 });
  using few = stranger(memory, 20_000);
  using flood = stranger(memory, MAX - 20_000);
  assert.deepEqual(await codesOf(few, flood), [undefined, undefined]);
  few.connection.packetBytesReceived++;
  assert.deepEqual(await codesOf(few, flood), [undefined, 4n]);
  assert.deepEqual(flood.reasons, ["it sent too much before git-annex let it in"]);
});

Deno.test("StrangerMemory closes as many connections as are needed", async () => {
  const memory = new StrangerMemory({ lookIntervalMs: 1 });
  const strangers = Array.from({ length: 5 }, (_, i) => stranger(memory, (i + 2) * MAX / 10));
  assert.deepEqual(await codesOf(...strangers), [undefined, undefined, undefined, 4n, 4n]);
  for (const { bytes } of strangers) bytes[Symbol.dispose]();
});

// As many packets as iroh sends to find paths on a busy machine with 240 interfaces.
Deno.test("StrangerMemory keeps a peer that has sent 740,000 bytes, beside 99 strangers", async () => {
  const memory = new StrangerMemory({ lookIntervalMs: 1 });
  using peer = stranger(memory, 740_000);
  const others = Array.from({ length: 99 }, () => stranger(memory, 20_000));
  assert.deepEqual(new Set(await codesOf(peer, ...others)), new Set([undefined]));
  for (const { bytes } of others) bytes[Symbol.dispose]();
});

Deno.test("StrangerMemory does not count the bytes that git-annex has taken", async () => {
  const memory = new StrangerMemory({ lookIntervalMs: 1 });
  let taken = 5_000_000;
  using one = stranger(memory, MAX + taken);
  one.bytes.countOut(() => taken);
  assert.deepEqual(await codesOf(one), [undefined]);
  taken--;
  assert.equal(await one.closed, 4n);
});

Deno.test("StrangerMemory keeps of a session that has ended a number alone", async () => {
  const memory = new StrangerMemory({ lookIntervalMs: 1 });
  using one = stranger(memory, MAX + 5_000_000);
  for (let i = 0; i < 5; i++) {
    let hasEnded = false;
    const counted = one.bytes.countOut(() => {
      assert(!hasEnded);
      return 1_000_000;
    });
    counted[Symbol.dispose]();
    hasEnded = true;
  }
  assert.deepEqual(await codesOf(one), [undefined]);
  one.connection.packetBytesReceived++;
  assert.equal(await one.closed, 4n);
});

Deno.test("StrangerMemory does not count a peer once it is no stranger", async () => {
  const memory = new StrangerMemory({ lookIntervalMs: 1 });
  using few = stranger(memory, 20_000);
  const admitted = stranger(memory, MAX);
  admitted.bytes[Symbol.dispose]();
  assert.deepEqual(await codesOf(few, admitted), [undefined, undefined]);
});
