import assert from "node:assert/strict";
import { IrohBytes } from "./bytes.ts";
import { Connection, type LocalEndpoint } from "./connection.ts";
import { describePath } from "./path.ts";
import { SilenceWatch } from "./silence_watch.ts";

type Given = number[] | Uint8Array;
type Paths = ReturnType<ConstructorParameters<typeof Connection>[0]["paths"]>;

/** A connection of iroh-js with one stream, of a version that passes bytes in one form and takes no other. */
class FakeConnection {
  /** Bytes that were written. */
  written: number[] = [];
  /** Bytes in the longest call. */
  longest = 0;
  /** Bytes that can be read. */
  readable: number[] = [];
  packets = 0;
  selected: { isIp: boolean; remoteAddr: string; rttMs: bigint } | undefined;
  #closed = Promise.withResolvers<string>();

  constructor(readonly isNative: boolean) {}

  /** Takes bytes as iroh-js does. */
  take(bytes: unknown): void {
    if (this.isNative ? !(bytes instanceof Uint8Array) : !Array.isArray(bytes)) {
      throw new Error("ArrayExpected");
    }
    const given = bytes as Given;
    this.longest = Math.max(this.longest, given.length);
    for (const byte of given) this.written.push(byte);
  }

  #give(maxBytes: number): Given {
    const part = this.readable.splice(0, maxBytes);
    return this.isNative ? new Uint8Array(part) : part;
  }

  /** Ends the connection, with what `closed()` of iroh-js resolves to. */
  end(text: string): void {
    this.#closed.resolve(text);
  }

  wrap(silence?: SilenceWatch): Connection {
    const fake = {
      closed: () => this.#closed.promise,
      close: () => this.end("closed"),
      stats: () => ({ udpRxDatagrams: this.packets }),
      paths: () => [{ isSelected: false }, ...this.selected ? [this.selected] : []] as Paths,
      alpn: () => this.isNative ? new TextEncoder().encode("x/1") : [120, 47, 49],
      openBi: () =>
        Promise.resolve({
          send: {
            writeAll: (bytes: unknown) => Promise.resolve(this.take(bytes)),
            finish: () => Promise.resolve(),
            stopped: () => Promise.resolve(),
            reset: () => Promise.resolve(),
          },
          recv: { read: (maxBytes: number) => Promise.resolve(this.#give(maxBytes)) },
        }),
    };
    const bytes = new IrohBytes((key) => new FakeConnection(this.isNative).take(key));
    assert.equal(bytes.isNative, this.isNative);
    const connection = fake as unknown as ConstructorParameters<typeof Connection>[0];
    return new Connection(connection, {} as LocalEndpoint, bytes, silence);
  }
}

for (const isNative of [false, true]) {
  const form = isNative ? "Uint8Array" : "arrays of numbers";
  Deno.test(`Connection passes ${form} to a version of iroh-js that takes them`, async () => {
    const sent = crypto.getRandomValues(new Uint8Array(60_000));
    const toRead = crypto.getRandomValues(new Uint8Array(50_000));
    const fake = new FakeConnection(isNative);
    fake.readable = [...toRead];
    const connection = fake.wrap();
    assert.equal(connection.alpn, "x/1");
    const stream = await connection.open();
    const writer = stream.writable.getWriter();
    await writer.write(sent);
    await writer.close();
    assert.deepEqual(new Uint8Array(fake.written), sent);
    // An array of numbers is slow, so that it comes in short calls.
    assert.equal(fake.longest === sent.length, isNative);
    const received = new Uint8Array(await new Response(stream.readable).arrayBuffer());
    assert.deepEqual(received, toRead);
    connection.close(0n, "");
    assert.deepEqual(await connection.closed, { by: "us" });
  });
}

Deno.test("Connection.path is the path that iroh has selected", () => {
  const fake = new FakeConnection(false), connection = fake.wrap();
  assert.equal(connection.path, undefined);
  assert.equal(connection.roundTripMs, undefined);
  assert.equal(describePath(connection.path), "no path");
  fake.selected = selected(true, "[::1]:5");
  assert.deepEqual(connection.path, { kind: "direct", address: "[::1]:5" });
  assert.equal(connection.roundTripMs, 7);
  assert.equal(describePath(connection.path), "direct [::1]:5");
  fake.selected = selected(false, "https://relay.example/\x1b[1m");
  assert.deepEqual(connection.path, { kind: "relay", address: "https://relay.example/ [1m" });
  connection.close(0n, "");
});

function selected(isIp: boolean, remoteAddr: string): FakeConnection["selected"] {
  return { isSelected: true, isIp, remoteAddr, rttMs: 7n } as FakeConnection["selected"];
}

Deno.test("Connection is lost if no packet comes within the timeout", async () => {
  const fake = new FakeConnection(false);
  const connection = fake.wrap(new SilenceWatch({ timeoutMs: 20, checkIntervalMs: 2 }));
  const { writable } = await connection.open();
  assert.deepEqual(await connection.closed, { by: "loss", detail: "nothing came for 0.02 s" });
  const error = { kind: "lost", message: "nothing came for 0.02 s" };
  await assert.rejects(writable.getWriter().closed, error); // although nothing is being written
});

Deno.test("Connection fails the streams that are being written when the peer closes it", async () => {
  const fake = new FakeConnection(false), connection = fake.wrap();
  const { writable } = await connection.open();
  fake.end("closed by peer: busy (code 7)");
  const error = { kind: "refused", message: "busy (code 7)", code: 7n };
  await assert.rejects(writable.getWriter().closed, error);
  assert.equal((await connection.closedError).message, "busy (code 7)");
});

Deno.test("Connection waits for the answer to its close", async () => {
  const fake = new FakeConnection(false), connection = fake.wrap();
  fake.packets = 7;
  connection.close(3n, "stopped");
  await assert.rejects(connection.closeAnswered(AbortSignal.timeout(30)), /TimeoutError|timed out/);
  const answered = connection.closeAnswered(new AbortController().signal);
  fake.packets++;
  await answered;
});

Deno.test("Connection waits for no answer if the peer has closed it", async () => {
  const fake = new FakeConnection(false), connection = fake.wrap();
  fake.end("closed by peer: busy (code 7)");
  await connection.closed;
  connection.close(3n, "stopped");
  await connection.closeAnswered(AbortSignal.timeout(60_000));
});
