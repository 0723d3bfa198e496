/** Random messages on the control socket: from a process to the listener, and between the two ends of a stream. */

import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { abortable } from "../../lib/async/abort.ts";
import { Channel, ChannelError, MessageKind, ProxiedStream } from "../../lib/control/channel.ts";
import type { ListedInvitation, NewInvitation } from "../../lib/control/request.ts";
import { locateControlSocket } from "../../lib/control/locator.ts";
import type { ConnectionPool } from "../../lib/listener/connection_pool.ts";
import { ControlServer } from "../../lib/listener/control_server.ts";
import type { InvitationBook } from "../../lib/pairing/invitation_book.ts";
import { TrafficMeter } from "../../lib/listener/traffic.ts";
import { listenerFolder } from "../../lib/repository/listener_folder.ts";
import { parseSettings } from "../../lib/repository/settings.ts";
import { StreamError } from "../../lib/streams/duplex.ts";
import { MessageFormat } from "../../lib/streams/message_format.ts";
import { cuts, damaged, type FuzzTarget, pieces } from "./target.ts";

const FORMAT = new MessageFormat(4);
/** Stands for the cookie, which the listener chooses. */
const COOKIE = "c".repeat(64);
const ADDRESS = "endpointaaaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6aibadaaaaqb2era";

const json = fc.oneof(
  fc.record({
    cookie: fc.oneof(fc.constant(COOKIE), fc.jsonValue()),
    want: fc.oneof(
      fc.constantFrom(
        "session",
        "lane",
        "forget",
        "peer",
        "status",
        "invite",
        "invitations",
        "withdraw",
      ),
      fc.jsonValue(),
    ),
    address: fc.oneof(fc.constant(ADDRESS), fc.string(), fc.jsonValue()),
    session: fc.oneof(fc.uuid(), fc.jsonValue()),
    id: fc.oneof(fc.constant("00".repeat(16)), fc.jsonValue()),
    hash: fc.oneof(fc.constant("00".repeat(32)), fc.jsonValue()),
    name: fc.oneof(fc.string(), fc.jsonValue()),
    validMs: fc.oneof(fc.nat(), fc.jsonValue()),
    ids: fc.oneof(fc.constant("all"), fc.array(fc.string()), fc.jsonValue()),
    daemon: fc.oneof(fc.constant(17), fc.jsonValue()),
    isResumed: fc.oneof(fc.boolean(), fc.jsonValue()),
    kind: fc.constantFrom("lost", "reset", "frob"),
    message: fc.oneof(fc.string(), fc.jsonValue()),
    sent: fc.oneof(fc.nat(), fc.jsonValue()),
    received: fc.oneof(fc.nat(), fc.jsonValue()),
  }, { requiredKeys: [] }),
  fc.jsonValue(),
).map((value) => new TextEncoder().encode(JSON.stringify(value)));
const kinds = fc.oneof(fc.constantFrom(...Object.values(MessageKind)), fc.nat(255));
const message = fc.tuple(kinds, fc.oneof(json, fc.uint8Array({ maxLength: 300 })))
  .map(([kind, body]) => FORMAT.encode(kind, body));
const request = json.map((body) => FORMAT.encode(MessageKind.REQUEST, body));
const messages = fc.tuple(fc.oneof(request, message), fc.array(message, { maxLength: 4 }))
  .map(([first, others]) => Uint8Array.from([first, ...others].flatMap((one) => [...one])));

/** Replaces {@linkcode COOKIE} by the true cookie, which has the same length. */
function withCookie(bytes: Uint8Array, cookie: string): Uint8Array<ArrayBuffer> {
  const text = new TextDecoder("latin1").decode(bytes).replaceAll(COOKIE, cookie);
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** Returns true if a process could write all of it. The listener may close the socket before. */
async function send(socket: Deno.Conn, parts: readonly Uint8Array[]): Promise<boolean> {
  try {
    for (const part of parts) {
      for (let rest = part; rest.length > 0;) rest = rest.subarray(await socket.write(rest));
    }
    return true;
  } catch (error) {
    assert(
      error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset,
      `${error}`,
    );
    return false;
  }
}

/** Takes any invitation, and keeps none. */
class FakeInvitations
  implements Pick<InvitationBook, "add" | "list" | "withdraw" | "withdrawHash"> {
  add({ hash, name, validMs, isDetached }: NewInvitation): Promise<ListedInvitation> {
    assert.match(hash, /^[0-9a-f]{64}$/);
    assert.equal(typeof validMs, "number");
    return Promise.resolve({
      id: hash,
      name,
      expires: "",
      isDetached,
      state: "open",
      remote: undefined,
    });
  }

  list(): ListedInvitation[] {
    return [];
  }

  withdraw(ids: readonly string[] | "all"): Promise<string[]> {
    assert(ids === "all" || ids.every((id) => typeof id === "string"));
    return Promise.resolve([]);
  }

  async withdrawHash(): Promise<void> {}
}

/** Whatever a process sends, the listener answers the next one. */
const server = fc.asyncProperty(
  fc.array(fc.tuple(damaged(messages), cuts), { minLength: 1, maxLength: 5 }),
  async (processes) => {
    const repository = { gitDir: await Deno.makeTempDir({ prefix: "p2p-iroh-fuzz-" }) };
    await Deno.mkdir(listenerFolder(repository), { recursive: true });
    try {
      using meter = new TrafficMeter();
      const pool = { open: () => Promise.reject(new StreamError("lost", "nobody is there")) };
      await using _server = await ControlServer.open({
        repository,
        settings: parseSettings(""),
        pool: pool as unknown as ConnectionPool,
        presence: {
          forget: () => {},
          untilHere: (_, signal) => abortable(new Promise<never>(() => {}), signal),
        },
        meter,
        invitations: new FakeInvitations(),
        status: () => ({ pid: 17 }),
        signal: new AbortController().signal,
        report: (message) => assert.fail(message),
        limits: { requestTimeoutMs: 1_000 },
      });
      const { socketPath: path, cookie } = locateControlSocket(repository)!;
      for (const [bytes, at] of processes) {
        using socket = await Deno.connect({ transport: "unix", path });
        await send(socket, pieces(withCookie(bytes, cookie), at));
        using channel = new Channel(await Deno.connect({ transport: "unix", path }));
        await channel.sendJson(MessageKind.REQUEST, { want: "status", cookie });
        assert.equal((await channel.receive())?.kind, MessageKind.ACCEPTED);
        assert.equal((await channel.receive())?.kind, MessageKind.ANSWER);
      }
    } finally {
      await Deno.remove(repository.gitDir, { recursive: true });
    }
  },
);

/** Whatever comes, a stream ends with an error of a stream once the other end is gone. */
const stream = fc.asyncProperty(damaged(messages), cuts, async (bytes, at) => {
  const folder = await Deno.makeTempDir({ prefix: "p2p-iroh-fuzz-" });
  try {
    const path = join(folder, "socket");
    using listener = Deno.listen({ transport: "unix", path });
    const other = await Deno.connect({ transport: "unix", path });
    using channel = new Channel(await listener.accept());
    const proxied = new ProxiedStream(channel, { gone: "gone" });
    const reading = Array.fromAsync(proxied.readable).then(() => undefined, (error) => error);
    const writer = proxied.writable.getWriter();
    writer.closed.catch(() => {}); // looked at below
    writer.write(new Uint8Array(10)).catch(() => {}); // looked at below
    await send(other, pieces(bytes, at));
    other.close();
    const errors = [await proxied.closedError, await reading];
    for (const error of errors) {
      const isExpected = error === undefined || error instanceof StreamError;
      assert(isExpected || error instanceof ChannelError, `${error}`);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

export const controlTargets: readonly FuzzTarget[] = [
  { name: "control-server", property: server, inputs: 10 },
  { name: "control-stream", property: stream, inputs: 20 },
];
