import assert from "node:assert/strict";
import type * as Iroh from "@number0/iroh";
import { IrohBytes } from "./bytes.ts";
import { ConnectionStreams } from "./streams.ts";

const BYTES = new IrohBytes(() => {
  throw new TypeError("it passes arrays of numbers");
});

Deno.test("ConnectionStreams reads little at first, and more once a read is full", async () => {
  const asked: number[] = [];
  const lengths = [21, 1024, 100, 32 * 1024, 5];
  const recv = {
    read: (most: number) => {
      asked.push(most);
      return Promise.resolve(Array<number>(lengths.shift() ?? 0).fill(7));
    },
  };
  const streams = new ConnectionStreams(BYTES, new Promise(() => {}));
  const { readable } = streams.duplex({ recv, send: {} } as unknown as Iroh.BiStream);
  for await (const _ of readable); // to the end
  assert.deepEqual(asked, [1024, 1024, 32 * 1024, 32 * 1024, 32 * 1024, 32 * 1024]);
});
