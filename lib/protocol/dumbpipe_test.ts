import assert from "node:assert/strict";
import fc from "fast-check";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { HandshakeError, receiveHandshake, sendHandshake } from "./dumbpipe.ts";

/** A stream that gives these pieces, each when it is wanted. */
function giving(pieces: Uint8Array[]): Duplex {
  const left = [...pieces];
  return {
    readable: new ReadableStream({
      type: "bytes",
      pull(controller) {
        const piece = left.shift();
        if (piece) return controller.enqueue(Uint8Array.from(piece));
        controller.close();
        controller.byobRequest?.respond(0);
      },
    }),
    writable: new WritableStream(),
  };
}

function cut(bytes: Uint8Array, lengths: number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let rest = bytes;
  for (const length of lengths) {
    if (rest.length === 0) break;
    pieces.push(rest.subarray(0, length));
    rest = rest.subarray(length);
  }
  return rest.length > 0 ? [...pieces, rest] : pieces;
}

Deno.test("sendHandshake() sends dumbpipe's five bytes", async () => {
  const sent: number[] = [];
  const writable = new WritableStream<Uint8Array>({ write: (chunk) => void sent.push(...chunk) });
  await sendHandshake({ readable: new ReadableStream(), writable });
  assert.equal(new TextDecoder().decode(Uint8Array.from(sent)), "hello");
  assert(!writable.locked);
});

Deno.test("receiveHandshake() takes the hello and not a byte of what follows, however it is cut", async () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 8 }), { maxLength: 10 });
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 30 }), lengths, async (rest, lengths) => {
      const stream = giving(
        cut(new Uint8Array([...new TextEncoder().encode("hello"), ...rest]), lengths),
      );
      await receiveHandshake(stream);
      const after = (await Array.fromAsync(stream.readable)).flatMap((chunk) => [...chunk]);
      assert.deepEqual(after, [...rest]);
    }),
  );
});

Deno.test("receiveHandshake() refuses everything else", async () => {
  for (const text of ["", "h", "hell", "hellO", "Hello", "GET / HTTP/1.1"]) {
    const stream = giving(cut(new TextEncoder().encode(text), [3]));
    await assert.rejects(receiveHandshake(stream), HandshakeError, text);
  }
});

Deno.test("receiveHandshake() refuses a stream that is reset, and leaves other errors alone", async () => {
  const errors = [
    new StreamError("reset", "given up"),
    new StreamError("refused", "code 7", { code: 7n }),
    new StreamError("closed", "closed"),
    new StreamError("lost", "lost"),
  ];
  for (const error of errors) {
    const readable = new ReadableStream({
      type: "bytes",
      pull: (controller) => controller.error(error),
    });
    const received = receiveHandshake({ readable, writable: new WritableStream() });
    const thrown = await received.then(() => undefined, (error) => error);
    const isReset = error.kind === "reset" || error.kind === "refused";
    assert(isReset ? thrown instanceof HandshakeError : thrown === error, `${thrown}`);
  }
});
