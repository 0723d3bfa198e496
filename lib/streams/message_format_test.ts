import assert from "node:assert/strict";
import fc from "fast-check";
import { MessageFormat } from "./message_format.ts";

Deno.test("MessageFormat writes kind, length and body", () => {
  const body = new Uint8Array(0x0102).fill(7);
  assert.deepEqual(
    new MessageFormat(4).encode(9, body).subarray(0, 6),
    Uint8Array.of(9, 0, 0, 1, 2, 7),
  );
  assert.deepEqual(new MessageFormat(2).encode(9, body).subarray(0, 4), Uint8Array.of(9, 1, 2, 7));
  assert.deepEqual(new MessageFormat(4).encode(9, new Uint8Array()), Uint8Array.of(9, 0, 0, 0, 0));
});

Deno.test("MessageFormat reads the header that it has written", () => {
  const lengthBytes = fc.constantFrom(1, 2, 3, 4 as const);
  const body = fc.uint8Array({ maxLength: 255 });
  fc.assert(fc.property(lengthBytes, fc.nat(255), body, (lengthBytes, kind, body) => {
    const format = new MessageFormat(lengthBytes);
    const message = format.encode(kind, body);
    assert.deepEqual(format.decodeHeader(message), { kind, length: body.length });
    assert.deepEqual(message.subarray(format.headerBytes), body);
  }));
});

Deno.test("MessageFormat reads a length of four bytes as unsigned", () => {
  const header = Uint8Array.of(1, 0xff, 0xff, 0xff, 0xff);
  assert.deepEqual(new MessageFormat(4).decodeHeader(header), { kind: 1, length: 0xffffffff });
});

Deno.test("MessageFormat refuses a body that its header cannot express", () => {
  assert.throws(() => new MessageFormat(2).encode(1, new Uint8Array(0x10000)), RangeError);
});
