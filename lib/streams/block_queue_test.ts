import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { BLOCK_BYTES, BlockQueue } from "./block_queue.ts";

/** Bytes that tell where they stood in what was appended. */
function bytesFrom(offset: number, length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => (offset + i) ^ ((offset + i) >> 8));
}

const length = fc.oneof(
  { weight: 3, arbitrary: fc.nat(300) },
  { weight: 2, arbitrary: fc.nat(40_000) },
  fc.nat(700_000),
  fc.constantFrom(16 * 1024, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1),
);
const action = fc.oneof(
  fc.record({ kind: fc.constant("append"), length }),
  fc.record({ kind: fc.constant("take"), releasesAt: fc.option(fc.nat(5)) }),
  fc.record({ kind: fc.constant("view"), offset: length, most: length }),
  fc.record({ kind: fc.constant("discard"), length }),
  fc.record({ kind: fc.constant("endView") }),
);

Deno.test("BlockQueue gives what was appended, whatever memory is used again", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const queue = new BlockQueue();
      let appended = 0, removed = 0;
      let view: { bytes: Uint8Array; offset: number } | undefined;
      const lent: { piece: Uint8Array<ArrayBuffer>; offset: number; until: number }[] = [];
      for (const [i, action] of actions.entries()) {
        switch (action.kind) {
          case "append": {
            const bytes = bytesFrom(appended, action.length);
            queue.append(bytes);
            bytes.fill(0); // the queue has a copy
            appended += action.length;
            break;
          }
          case "take": {
            const piece = queue.take();
            assert.equal(piece === undefined, removed === appended);
            if (!piece) break;
            assert(piece.length > 0 && piece.length <= BLOCK_BYTES);
            const until = action.releasesAt === null ? Infinity : i + action.releasesAt;
            lent.push({ piece, offset: removed, until });
            removed += piece.length;
            view = undefined; // only what is discarded may be viewed on
            break;
          }
          case "view": {
            const offset = removed + action.offset;
            const bytes = queue.view(action.offset, action.most);
            if (offset < appended && action.most > 0) assert(bytes.length > 0);
            assert(bytes.length <= Math.min(action.most, Math.max(0, appended - offset)));
            view = { bytes, offset };
            break;
          }
          case "discard": {
            const count = Math.min(action.length, appended - removed);
            queue.discard(count);
            removed += count;
            break;
          }
          case "endView":
            queue.endView();
            view = undefined;
        }
        assert.equal(queue.length, appended - removed);
        if (view) assertBytes(view.bytes, view.offset);
        for (const { piece, offset } of lent) assertBytes(piece, offset);
        for (const { piece } of lent.filter(({ until }) => until <= i)) queue.release(piece);
        lent.splice(0, Infinity, ...lent.filter(({ until }) => until > i));
      }
      for (let piece; (piece = queue.take()); removed += piece.length) assertBytes(piece, removed);
      assert.equal(removed, appended);
      queue.clear();
      assert.equal(queue.length, 0);
      for (const { piece, offset } of lent) assertBytes(piece, offset); // what was lent stays
    }),
    { numRuns: 60 },
  );
});

function assertBytes(bytes: Uint8Array, offset: number): void {
  assert.equal(Buffer.compare(bytes, bytesFrom(offset, bytes.length)), 0);
}

Deno.test("BlockQueue uses memory again that was given back", () => {
  const queue = new BlockQueue();
  queue.append(new Uint8Array(BLOCK_BYTES)); // so that it is never empty
  const pass = () => {
    queue.append(new Uint8Array(BLOCK_BYTES));
    return queue.take()!;
  };
  const first = pass(), second = pass();
  assert.notEqual(first.buffer, second.buffer);
  queue.release(first.subarray(10, 20)); // a part of it will do
  pass(); // which appends to it
  assert.equal(pass().buffer, first.buffer);
  queue.release(first.subarray(0, 1));
  queue.release(first); // a second time
  pass();
  assert.equal(pass().buffer, first.buffer);
  assert.notEqual(pass().buffer, first.buffer);
  queue.release(new Uint8Array(BLOCK_BYTES)); // never lent
});

Deno.test("BlockQueue uses discarded memory again, but not while it is viewed", () => {
  const queue = new BlockQueue();
  const append = () => {
    queue.append(new Uint8Array(BLOCK_BYTES).fill(1));
    return queue.view(queue.length - BLOCK_BYTES, BLOCK_BYTES);
  };
  const first = append();
  append(); // so that the queue is not empty
  queue.endView();
  queue.discard(BLOCK_BYTES);
  const second = append();
  assert.equal(second.buffer, first.buffer);
  queue.discard(queue.length); // as a peer acknowledges what is still being written
  queue.append(new Uint8Array(BLOCK_BYTES).fill(2));
  assert(second.length === BLOCK_BYTES && second.every((byte) => byte === 1));
  queue.view(0, 1);
  queue.clear();
  assert.equal(second.length, BLOCK_BYTES);
});

Deno.test("BlockQueue keeps little memory for later, and none when it is empty", () => {
  const queue = new BlockQueue();
  const views = Array.from({ length: 20 }, (_, i) => {
    queue.append(new Uint8Array(BLOCK_BYTES));
    return queue.view(i * BLOCK_BYTES, 1);
  });
  queue.endView();
  const kept = () => views.filter(({ buffer }) => !buffer.detached).length;
  queue.discard(19 * BLOCK_BYTES);
  assert.equal(kept(), 1 + 8); // 2 MiB
  queue.discard(BLOCK_BYTES);
  assert.equal(kept(), 0);
});

Deno.test("BlockQueue passes little on as a copy, so that no whole block is lent for it", () => {
  const queue = new BlockQueue();
  queue.append(new Uint8Array(16 * 1024));
  assert.equal(queue.take()!.buffer.byteLength, 16 * 1024);
  queue.append(new Uint8Array(BLOCK_BYTES + 10));
  queue.take();
  assert.equal(queue.take()!.buffer.byteLength, 10);
});
