import assert from "node:assert/strict";
import { join } from "node:path";
import { Channel, ChannelStream, MessageKind } from "./channel.ts";

/** A stream, and the other end of its channel. */
class Ends implements AsyncDisposable {
  readonly stream: ChannelStream;

  private constructor(readonly own: Channel, readonly other: Channel, readonly folder: string) {
    this.stream = new ChannelStream(own, { gone: "gone" });
  }

  static async make(): Promise<Ends> {
    const folder = await Deno.makeTempDir();
    const path = join(folder, "socket");
    using listener = Deno.listen({ transport: "unix", path });
    const [own, other] = await Promise.all([
      Deno.connect({ transport: "unix", path }),
      listener.accept(),
    ]);
    return new Ends(new Channel(own), new Channel(other), folder);
  }

  /** Both ends say all; the other one has not heard it yet. */
  async sayAll(): Promise<void> {
    await this.other.send(MessageKind.END);
    for await (const _ of this.stream.readable);
    await this.stream.writable.close();
  }

  async over(): Promise<string> {
    return (await this.stream.over).kind;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.other[Symbol.dispose]();
    await this.stream.over;
    this.own[Symbol.dispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

const options = { ignore: Deno.build.os === "windows" };

Deno.test("ChannelStream: the end is in order once both ends have said all", options, async () => {
  await using ends = await Ends.make();
  await ends.sayAll();
  assert.equal((await ends.other.receive())?.kind, MessageKind.END);
  ends.other[Symbol.dispose]();
  assert.equal(await ends.over(), "closed");
});

Deno.test("ChannelStream: it is lost where the other end has not heard all", options, async () => {
  await using ends = await Ends.make();
  await ends.sayAll();
  ends.other[Symbol.dispose]();
  assert.equal(await ends.over(), Deno.build.os === "linux" ? "lost" : "closed");
});

Deno.test("ChannelStream: it is lost where either end has not said all", options, async () => {
  await using silent = await Ends.make();
  silent.other[Symbol.dispose]();
  assert.equal(await silent.over(), "lost");
  await using speaking = await Ends.make();
  await speaking.other.send(MessageKind.END);
  for await (const _ of speaking.stream.readable);
  speaking.other[Symbol.dispose]();
  assert.equal(await speaking.over(), "lost");
});
