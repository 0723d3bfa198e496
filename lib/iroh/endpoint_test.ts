import assert from "node:assert/strict";
import { Connection, type Endpoint } from "./endpoint.ts";
import { IrohBytes } from "./bytes.ts";

type Given = number[] | Uint8Array;

/** A stream of iroh-js, of a version that passes bytes in one form and takes no other. */
class FakeStream {
  /** What it was given, and what it gives. */
  written: number[] = [];
  largest = 0;
  toRead: number[];

  constructor(readonly isNative: boolean, toRead: number[]) {
    this.toRead = toRead;
  }

  take(bytes: unknown): void {
    if (this.isNative ? !(bytes instanceof Uint8Array) : !Array.isArray(bytes)) {
      throw new Error("ArrayExpected");
    }
    const given = bytes as Given;
    this.largest = Math.max(this.largest, given.length);
    for (const byte of given) this.written.push(byte);
  }

  give(most: number): Given {
    const part = this.toRead.splice(0, most);
    return this.isNative ? new Uint8Array(part) : part;
  }

  /** Stands in for iroh-js's connection. */
  connection(): ConstructorParameters<typeof Connection>[0] {
    const fake = {
      closed: () => new Promise(() => {}),
      close: () => {},
      stats: () => ({ udpRxDatagrams: Math.random() }),
      alpn: () => this.isNative ? new TextEncoder().encode("x/1") : [120, 47, 49],
      openBi: () =>
        Promise.resolve({
          send: {
            writeAll: (bytes: unknown) => Promise.resolve(this.take(bytes)),
            finish: () => Promise.resolve(),
            stopped: () => Promise.resolve(),
          },
          recv: { read: (most: number) => Promise.resolve(this.give(most)) },
        }),
    };
    return fake as unknown as ConstructorParameters<typeof Connection>[0];
  }
}

for (const isNative of [false, true]) {
  const form = isNative ? "Uint8Array" : "arrays of numbers";
  Deno.test({
    name: `a version of iroh-js that passes ${form} is given those, found at run time`,
    sanitizeOps: false, // it watches the connection, which does not end
    sanitizeResources: false,
    fn: async () => {
      const sent = crypto.getRandomValues(new Uint8Array(60_000));
      const toRead = crypto.getRandomValues(new Uint8Array(50_000));
      const fake = new FakeStream(isNative, [...toRead]);
      const bytes = new IrohBytes((key) => new FakeStream(isNative, []).take(key));
      assert.equal(bytes.isNative, isNative);
      const connection = new Connection(fake.connection(), {} as Endpoint, bytes);
      assert.equal(connection.alpn, "x/1");
      const stream = await connection.open();
      const writer = stream.writable.getWriter();
      await writer.write(sent);
      await writer.close();
      assert.deepEqual(new Uint8Array(fake.written), sent);
      // Small calls are for what is slow.
      assert.equal(fake.largest === sent.length, isNative);
      const received = new Uint8Array(await new Response(stream.readable).arrayBuffer());
      assert.deepEqual(received, toRead);
    },
  });
}
