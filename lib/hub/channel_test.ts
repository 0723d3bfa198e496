import assert from "node:assert/strict";
import { join } from "node:path";
import { Channel, ChannelStream, MessageKind } from "./channel.ts";

/** A stream, and the other end of its channel. */
class Ends implements AsyncDisposable {
  private constructor(
    readonly stream: ChannelStream,
    readonly other: Channel,
    readonly folder: string,
  ) {}

  static async make(): Promise<Ends> {
    const folder = await Deno.makeTempDir();
    const path = join(folder, "socket");
    using listener = Deno.listen({ transport: "unix", path });
    const [one, other] = await Promise.all([
      Deno.connect({ transport: "unix", path }),
      listener.accept(),
    ]);
    return new Ends(
      new ChannelStream(new Channel(one), { gone: "gone" }),
      new Channel(other),
      folder,
    );
  }

  /** Both directions are ended, and the other end is told so or is not. */
  async say(): Promise<void> {
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
    await Deno.remove(this.folder, { recursive: true });
  }
}

const options = { ignore: Deno.build.os === "windows", sanitizeResources: false };

Deno.test("ChannelStream: the end is in order once both ends have said all", options, async () => {
  await using ends = await Ends.make();
  await ends.say();
  assert.equal((await ends.other.receive())?.kind, MessageKind.END);
  ends.other[Symbol.dispose]();
  assert.equal(await ends.over(), "closed");
});

Deno.test("ChannelStream: it is lost where the other end has not heard all", options, async () => {
  await using ends = await Ends.make();
  await ends.say();
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
