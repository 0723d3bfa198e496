import assert from "node:assert/strict";
import { join } from "node:path";
import { Channel, MessageKind, ProxiedStream } from "./channel.ts";

/** A stream, and the other end of its channel. */
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

  /** Both ends say all; the other one has not heard it yet. */
  async sayAll(): Promise<void> {
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

Deno.test("ProxiedStream: the end is in order once both ends have said all", options, async () => {
  await using pair = await Pair.make();
  await pair.sayAll();
  assert.equal((await pair.other.receive())?.kind, MessageKind.END);
  pair.other[Symbol.dispose]();
  assert.equal(await pair.outcome(), "closed");
});

Deno.test("ProxiedStream: it is lost where the other end has not heard all", options, async () => {
  await using pair = await Pair.make();
  await pair.sayAll();
  pair.other[Symbol.dispose]();
  assert.equal(await pair.outcome(), Deno.build.os === "linux" ? "lost" : "closed");
});

Deno.test("ProxiedStream: it is lost where either end has not said all", options, async () => {
  await using silent = await Pair.make();
  silent.other[Symbol.dispose]();
  assert.equal(await silent.outcome(), "lost");
  await using speaking = await Pair.make();
  await speaking.other.send(MessageKind.END);
  for await (const _ of speaking.stream.readable);
  speaking.other[Symbol.dispose]();
  assert.equal(await speaking.outcome(), "lost");
});
