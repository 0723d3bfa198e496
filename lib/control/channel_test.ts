import assert from "node:assert/strict";
import { join } from "node:path";
import { Channel, ChannelError, jsonOf, MessageKind, ProxiedStream } from "./channel.ts";

/** A stream at one end of a channel, and the other end. */
class Pair implements AsyncDisposable {
  readonly stream: ProxiedStream;

  private constructor(readonly near: Channel, readonly other: Channel, readonly folder: string) {
    this.stream = new ProxiedStream(near, { gone: "gone" });
  }

  static async make(): Promise<Pair> {
    const folder = await Deno.makeTempDir();
    const path = join(folder, "socket");
    using listener = Deno.listen({ transport: "unix", path });
    const [near, other] = await Promise.all([
      Deno.connect({ transport: "unix", path }),
      listener.accept(),
    ]);
    return new Pair(new Channel(near), new Channel(other), folder);
  }

  /** Lets both ends send END. The other end has not read ours yet. */
  async endBoth(): Promise<void> {
    await this.other.send(MessageKind.END);
    for await (const _ of this.stream.readable);
    await this.stream.writable.close();
  }

  async outcome(): Promise<string> {
    return (await this.stream.closedError).kind;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.other[Symbol.dispose]();
    await this.stream.closedError;
    this.near[Symbol.dispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

const options = { ignore: Deno.build.os === "windows" };

Deno.test(
  "ProxiedStream: closes in an orderly way after both ends have sent END",
  options,
  async () => {
    await using pair = await Pair.make();
    await pair.endBoth();
    assert.equal((await pair.other.receive())?.kind, MessageKind.END);
    pair.other[Symbol.dispose]();
    assert.equal(await pair.outcome(), "closed");
  },
);

Deno.test(
  "ProxiedStream: is lost if the other end closes before it has read END",
  options,
  async () => {
    await using pair = await Pair.make();
    await pair.endBoth();
    pair.other[Symbol.dispose]();
    assert.equal(await pair.outcome(), Deno.build.os === "linux" ? "lost" : "closed");
  },
);

Deno.test(
  "ProxiedStream: is lost if either end closes before it has sent END",
  options,
  async () => {
    await using neither = await Pair.make();
    neither.other[Symbol.dispose]();
    assert.equal(await neither.outcome(), "lost");
    await using theirs = await Pair.make();
    await theirs.other.send(MessageKind.END);
    for await (const _ of theirs.stream.readable);
    theirs.other[Symbol.dispose]();
    assert.equal(await theirs.outcome(), "lost");
  },
);

Deno.test("ProxiedStream: is lost if the other end sends what is no error", options, async () => {
  await using pair = await Pair.make();
  await pair.other.sendJson(MessageKind.RESET, { kind: "nonsense", message: "text" });
  const error = await pair.stream.closedError;
  assert.equal(error.kind, "lost");
  assert.equal((error.cause as Error).message, "invalid error in a message");
});

Deno.test(
  "Channel: refuses a body that is longer than permitted, before it has come",
  options,
  async () => {
    const folder = await Deno.makeTempDir(), path = join(folder, "socket");
    using listener = Deno.listen({ transport: "unix", path });
    using raw = await Deno.connect({ transport: "unix", path });
    using channel = new Channel(await listener.accept());
    await raw.write(Uint8Array.of(MessageKind.REQUEST, 0, 0, 0, 101));
    await assert.rejects(channel.receive(100), { message: "a message of 101 bytes" });
    await raw.write(Uint8Array.of(MessageKind.DATA, 0xff, 0xff, 0xff, 0xff)); // 4 GB
    await assert.rejects(channel.receive(), { message: "a message of 4294967295 bytes" });
    await Deno.remove(folder, { recursive: true });
  },
);

Deno.test("jsonOf() returns an object, and nothing else", () => {
  const read = (text: string) => jsonOf({ kind: 0, body: new TextEncoder().encode(text) });
  assert.deepEqual(read('{"a":1}'), { a: 1 });
  for (const text of ["null", "true", "1", '"text"', "", "{", "undefined"]) {
    assert.throws(() => read(text), ChannelError, text);
  }
});
