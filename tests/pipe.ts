/** In-memory streams that lead to each other. */

import type { Duplex } from "../lib/streams/duplex.ts";
import { eventLoopTurns } from "./event_loop.ts";

/** Returns both ends of a stream that passes bytes on after `wait` turns of the event loop. */
export function pipe(wait = 0): [Duplex, Duplex] {
  const slow = () =>
    new TransformStream<Uint8Array, Uint8Array<ArrayBuffer>>(
      {
        async transform(chunk, controller) {
          await eventLoopTurns(wait);
          controller.enqueue(Uint8Array.from(chunk));
        },
      },
      { highWaterMark: 2 },
      { highWaterMark: 2 },
    );
  const there = slow(), back = slow();
  return [
    { readable: bytes(back.readable), writable: there.writable },
    { readable: bytes(there.readable), writable: back.writable },
  ];
}

/** Makes a byte stream of a stream, as those of iroh are. */
function bytes(readable: ReadableStream<Uint8Array<ArrayBuffer>>) {
  const reader = readable.getReader();
  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    type: "bytes",
    async pull(controller) {
      const { value, done } = await reader.read();
      if (!done) return controller.enqueue(value);
      controller.close();
      (controller as ReadableByteStreamController).byobRequest?.respond(0);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}
