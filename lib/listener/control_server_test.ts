import assert from "node:assert/strict";
import { join } from "node:path";
import { abortable } from "../async/abort.ts";
import { Channel, type ChannelMessage, jsonOf, MessageKind } from "../control/channel.ts";
import { requestForget } from "../control/client.ts";
import { addInvitation, listInvitations, withdrawInvitations } from "../control/invitations.ts";
import type { InvitationEvent, ListedInvitation, NewInvitation } from "../control/request.ts";
import { Failure } from "../console/failure.ts";
import { type ControlLocator, locateControlSocket } from "../control/locator.ts";
import type { Repository } from "../repository/repository.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import { newIdentity } from "../repository/identity.ts";
import { parseSettings } from "../repository/settings.ts";
import { encodeTicket } from "../repository/ticket.ts";
import type { ConnectionPool } from "./connection_pool.ts";
import { ControlServer, type ControlServerOptions } from "./control_server.ts";
import { TrafficMeter } from "./traffic.ts";

const onUnix = { ignore: Deno.build.os === "windows" };

function optionsFor(repository: Repository, meter: TrafficMeter): ControlServerOptions {
  return {
    repository,
    settings: parseSettings(""),
    pool: {} as ConnectionPool,
    presence: { forget: () => {}, untilHere: () => Promise.resolve() },
    meter,
    invitations: {} as ControlServerOptions["invitations"],
    status: () => ({ pid: 17 }),
    report: () => {},
    signal: new AbortController().signal,
  };
}

/** Calls `body` with a channel to a control server of a new repository. */
async function withServer(
  options: Partial<ControlServerOptions>,
  body: (channel: Channel, locator: ControlLocator, repository: Repository) => Promise<void>,
): Promise<void> {
  const repository = { gitDir: await Deno.makeTempDir() };
  await Deno.mkdir(listenerFolder(repository), { recursive: true });
  try {
    using meter = new TrafficMeter();
    const all = { ...optionsFor(repository, meter), ...options };
    await using _server = await ControlServer.open(all);
    const locator = locateControlSocket(repository)!;
    const path = locator.socketPath;
    using channel = new Channel(await Deno.connect({ transport: "unix", path }));
    await body(channel, locator, repository);
  } finally {
    await Deno.remove(repository.gitDir, { recursive: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

/** The next message; undefined if the server has closed, which it may do with input unread. */
async function receive(channel: Channel): Promise<ChannelMessage | undefined> {
  return await channel.receive().catch((error) => {
    assert(error instanceof Deno.errors.ConnectionReset);
    return undefined;
  });
}

Deno.test("ControlServer answers a status request", onUnix, async () => {
  await withServer({}, async (channel, { cookie }) => {
    await channel.sendJson(MessageKind.REQUEST, { want: "status", cookie });
    assert.equal((await receive(channel))?.kind, MessageKind.ACCEPTED);
    const answer = await receive(channel);
    assert.equal(answer?.kind, MessageKind.ANSWER);
    assert.deepEqual(jsonOf(answer!), { pid: 17 });
    assert.equal(await receive(channel), undefined);
  });
});

Deno.test("ControlServer closes on a process that sends no request in time", onUnix, async () => {
  await withServer({ limits: { requestTimeoutMs: 5 } }, async (channel) => {
    assert.equal(await receive(channel), undefined);
  });
});

Deno.test("ControlServer has at most 512 connections with processes", onUnix, async () => {
  // With the time limit of the program, the first ones could be closed before the last one comes.
  await withServer(
    { limits: { requestTimeoutMs: 600_000 } },
    async (first, { socketPath: path, cookie }) => {
      using others = new DisposableStack();
      const connect = async () => {
        return others.use(new Channel(await Deno.connect({ transport: "unix", path })));
      };
      const ends = [receive(first)];
      while (ends.length < 512) ends.push(receive(await connect()));
      const last = receive(await connect()), soon = AbortSignal.timeout(10_000);
      const refused = Promise.race([...ends, last.then(() => "refused")]);
      assert.equal(await abortable(refused, soon), "refused");
      assert.equal(await last, undefined);
      first[Symbol.dispose](); // which the server notices a moment later
      const isServed = async () => {
        using channel = new Channel(await Deno.connect({ transport: "unix", path }));
        await channel.sendJson(MessageKind.REQUEST, { want: "status", cookie }).catch(() => {});
        return (await abortable(receive(channel), soon))?.kind === MessageKind.ACCEPTED;
      };
      while (!await isServed()) soon.throwIfAborted();
    },
  );
});

Deno.test(
  "ControlServer accepts requests for sessions while it dials for others",
  onUnix,
  async () => {
    const open: ConnectionPool["open"] = (_ticket, _request, signal) =>
      abortable(new Promise(() => {}), signal);
    const address = encodeTicket({ publicKey: newIdentity().publicKey, relays: [] });
    await withServer(
      { pool: { open } as ConnectionPool },
      async (first, { cookie, socketPath }) => {
        using others = new DisposableStack();
        const soon = AbortSignal.timeout(10_000);
        const isAccepted = async (channel: Channel) => {
          const request = { want: "session", address, id: "00".repeat(16), cookie };
          await channel.sendJson(MessageKind.REQUEST, request);
          const answer = await abortable(receive(channel), soon);
          assert.equal(answer?.kind, MessageKind.ACCEPTED);
        };
        await isAccepted(first);
        for (let i = 0; i < 8; i++) {
          const socket = await Deno.connect({ transport: "unix", path: socketPath });
          await isAccepted(others.use(new Channel(socket)));
        }
      },
    );
  },
);

const WRONG: [what: string, request: object][] = [
  ["without the cookie", { want: "status" }],
  ["with another cookie", { want: "status", cookie: "00".repeat(32) }],
  ["for something unknown", { want: "frob" }],
  ["for a session without an address", { want: "session", id: "00".repeat(16) }],
  ["for a session without an id", { want: "session", address: "endpointa" }],
  ["for an invitation without a hash", { want: "invite", validMs: 1, isDetached: true }],
  ["for an invitation without a time", { want: "invite", hash: "ab".repeat(32) }],
  ["to withdraw what is no list", { want: "withdraw", ids: "some" }],
  ["for a session with an id that is none", { want: "session", address: "endpointa", id: "0" }],
];

for (const [what, request] of WRONG) {
  Deno.test(`ControlServer accepts no request ${what}`, onUnix, async () => {
    await withServer({}, async (channel, { cookie }) => {
      const right = what.includes("cookie") ? {} : { cookie };
      await channel.sendJson(MessageKind.REQUEST, { ...right, ...request });
      assert.equal(await receive(channel), undefined);
    });
  });
}

Deno.test("ControlServer accepts no message of another kind as a request", onUnix, async () => {
  await withServer({}, async (channel, { cookie }) => {
    await channel.sendJson(MessageKind.DATA, { want: "status", cookie });
    assert.equal(await receive(channel), undefined);
  });
});

Deno.test("ControlServer says FAILED for the lane of a session that is over", onUnix, async () => {
  await withServer({}, async (channel, { cookie }) => {
    await channel.sendJson(MessageKind.REQUEST, { want: "lane", session: "none", cookie });
    assert.equal((await receive(channel))?.kind, MessageKind.ACCEPTED);
    assert.equal((await receive(channel))?.kind, MessageKind.FAILED);
  });
});

Deno.test(
  "ControlServer tells a process what it can do about a wrong address",
  onUnix,
  async () => {
    await withServer({}, async (channel, { cookie }) => {
      const request = { want: "session", address: "frob", id: "00".repeat(16), cookie };
      await channel.sendJson(MessageKind.REQUEST, request);
      assert.equal((await receive(channel))?.kind, MessageKind.ACCEPTED);
      const failed = await receive(channel);
      assert.equal(failed?.kind, MessageKind.FAILED);
      const { message, exitStatus } = jsonOf(failed!);
      assert.match(String(message), /"frob" is not an address/);
      assert.equal(exitStatus, 2);
    });
  },
);

Deno.test(
  "ControlServer restores what a clean-up has removed, socket or locator",
  onUnix,
  async () => {
    const answers = async ({ socketPath, cookie }: ControlLocator) => {
      using channel = new Channel(await Deno.connect({ transport: "unix", path: socketPath }));
      await channel.sendJson(MessageKind.REQUEST, { want: "status", cookie });
      assert.equal((await receive(channel))?.kind, MessageKind.ACCEPTED);
    };
    const limits = { lookIntervalMs: 5 };
    await withServer({ limits }, async (_, locator, repository) => {
      const file = join(listenerFolder(repository), "control");
      for (const path of [file, locator.socketPath, file]) {
        await Deno.remove(path);
        while (!await exists(path)) await new Promise((next) => setTimeout(next, 1));
        while (!locateControlSocket(repository)) await new Promise((next) => setTimeout(next, 1));
        assert.deepEqual(locateControlSocket(repository), locator);
        await answers(locator);
      }
    });
  },
);

Deno.test("ControlServer leaves the locator of a later listener alone", onUnix, async () => {
  await withServer({ limits: { lookIntervalMs: 1 } }, async (_, locator, repository) => {
    const file = join(listenerFolder(repository), "control");
    const text = (await Deno.readTextFile(file)).replace(locator.cookie, "another");
    await Deno.writeTextFile(file, text);
    await new Promise((next) => setTimeout(next, 20));
    assert.equal(await Deno.readTextFile(file), text);
  });
});

Deno.test("ControlServer forgets that a peer was away", onUnix, async () => {
  const forgotten: (string | undefined)[] = [], { publicKey } = newIdentity();
  const presence = {
    untilHere: () => Promise.resolve(),
    forget: (key?: string) => void forgotten.push(key),
  };
  await withServer({ presence }, async (_, locator) => {
    await requestForget(
      locator,
      encodeTicket({ publicKey, relays: [] }),
      AbortSignal.timeout(9_000),
    );
  });
  assert.deepEqual(forgotten, [publicKey.toHex()]);
});

/** Asks through a channel to wait for a peer, and waits until that is accepted. */
async function askForPeer(channel: Channel, cookie: string, daemon = 17): Promise<void> {
  const address = encodeTicket({ publicKey: newIdentity().publicKey, relays: [] });
  await channel.sendJson(MessageKind.REQUEST, { want: "peer", address, daemon, cookie });
  assert.equal((await receive(channel))?.kind, MessageKind.ACCEPTED);
}

Deno.test("ControlServer answers when a peer is there", onUnix, async () => {
  const here = Promise.withResolvers<void>();
  await withServer(
    { presence: { forget: () => {}, untilHere: () => here.promise } },
    async (channel, { cookie }) => {
      await askForPeer(channel, cookie);
      const answer = receive(channel);
      here.resolve();
      assert.equal((await answer)?.kind, MessageKind.ANSWER);
    },
  );
});

Deno.test(
  "ControlServer waits no longer for a peer when the process or the listener ends",
  onUnix,
  async () => {
    const ended: unknown[] = [], asked = Promise.withResolvers<void>();
    const untilHere = (_: string, signal: AbortSignal) => {
      return new Promise<void>((_, reject) => {
        signal.addEventListener("abort", () => {
          ended.push(signal.reason.message);
          asked.resolve();
          reject(signal.reason);
        });
      });
    };
    let last: Channel | undefined;
    await withServer(
      { presence: { forget: () => {}, untilHere } },
      async (channel, { cookie, socketPath: path }) => {
        await askForPeer(channel, cookie, 1);
        channel[Symbol.dispose]();
        await asked.promise;
        last = new Channel(await Deno.connect({ transport: "unix", path }));
        await askForPeer(last, cookie, 2);
      },
    );
    using channel = last!;
    assert.equal((await receive(channel))?.kind, MessageKind.FAILED);
    assert.deepEqual(ended, ["the process is gone", "the listener stops"]);
  },
);

Deno.test("ControlServer refuses to wait for a peer for what is no process", onUnix, async () => {
  await withServer({}, async (channel, { cookie }) => {
    const request = { want: "peer", address: "endpointa", daemon: "17", cookie };
    await channel.sendJson(MessageKind.REQUEST, request);
    assert.equal(await receive(channel), undefined);
  });
});

Deno.test("ControlServer opens its socket later if it cannot at first", onUnix, async () => {
  const reports: string[] = [];
  const repository = { gitDir: await Deno.makeTempDir() };
  try {
    using meter = new TrafficMeter();
    await using _server = await ControlServer.open({
      ...optionsFor(repository, meter),
      report: (message) => reports.push(message),
      limits: { lookIntervalMs: 1 },
    });
    assert.match(reports.join(), /^no connections are kept: no such file or directory$/);
    await Deno.mkdir(listenerFolder(repository), { recursive: true });
    while (!locateControlSocket(repository)) await new Promise((next) => setTimeout(next, 1));
    assert.equal(reports.length, 1);
  } finally {
    await Deno.remove(repository.gitDir, { recursive: true });
  }
});

Deno.test("ControlServer does not wait for a request that is too long", onUnix, async () => {
  await withServer({ limits: { requestTimeoutMs: 600_000 } }, async (_, { socketPath: path }) => {
    for (const length of [8 * 1024 + 1, 0xffff_ffff]) {
      using socket = await Deno.connect({ transport: "unix", path });
      const header = new Uint8Array(5);
      header[0] = MessageKind.REQUEST;
      new DataView(header.buffer).setUint32(1, length);
      await socket.write(header);
      using channel = new Channel(socket);
      assert.equal(await abortable(receive(channel), AbortSignal.timeout(10_000)), undefined);
    }
  });
});

Deno.test("ControlServer accepts no request that is null, and goes on", onUnix, async () => {
  await withServer({}, async (channel, { socketPath: path, cookie }) => {
    await channel.sendJson(MessageKind.REQUEST, null);
    assert.equal(await receive(channel), undefined);
    using next = new Channel(await Deno.connect({ transport: "unix", path }));
    await next.sendJson(MessageKind.REQUEST, { want: "status", cookie });
    assert.equal((await receive(next))?.kind, MessageKind.ACCEPTED);
  });
});

const HASH = "ab".repeat(32);
const LISTED: ListedInvitation = {
  id: HASH.slice(0, 8),
  name: "ann",
  expires: "2026-11-28T12:00:00.000Z",
  isDetached: false,
  state: "open",
  remote: undefined,
};
const INVITATION = { hash: HASH, name: "ann", validMs: 60_000, isDetached: false };

/** A book with invitations that a test has added, of which it says what happens to them. */
class FakeInvitations {
  readonly added: NewInvitation[] = [];
  readonly withdrawn: string[] = [];
  tell: (event: InvitationEvent) => void = () => {};

  add(invitation: NewInvitation, onEvent?: (event: InvitationEvent) => void) {
    if (invitation.validMs > 60_000) return Promise.reject(new Failure("too long", { hint: "x" }));
    this.added.push(invitation);
    if (onEvent) this.tell = onEvent;
    return Promise.resolve(LISTED);
  }

  list() {
    return [LISTED];
  }

  withdraw(ids: readonly string[] | "all") {
    return Promise.resolve(ids === "all" ? [LISTED.id] : [...ids]);
  }

  withdrawHash(hash: string) {
    this.withdrawn.push(hash);
    return Promise.resolve();
  }
}

const forever = new AbortController().signal;

Deno.test("ControlServer keeps an invitation, and says what happens to it", onUnix, async () => {
  const invitations = new FakeInvitations();
  await withServer({ invitations }, async (_, locator) => {
    using held = await addInvitation(locator, INVITATION, forever);
    assert.deepEqual(held.invitation, JSON.parse(JSON.stringify(LISTED)));
    assert.deepEqual(invitations.added, [INVITATION]);
    const events: InvitationEvent[] = [
      { kind: "joining", name: "ann" },
      { kind: "failed", message: "no room" },
      { kind: "joined", remote: "ann", wasLinked: false },
    ];
    for (const event of events) invitations.tell(event);
    assert.deepEqual(await Array.fromAsync(held.events), events);
  });
});

Deno.test("ControlServer withdraws an invitation whose process is gone", onUnix, async () => {
  const invitations = new FakeInvitations();
  await withServer({ invitations }, async (_, locator) => {
    {
      using _held = await addInvitation(locator, INVITATION, forever);
      assert.deepEqual(invitations.withdrawn, []);
    }
    while (invitations.withdrawn.length === 0) await new Promise((next) => setTimeout(next, 1));
    assert.deepEqual(invitations.withdrawn, [HASH]);
  });
});

Deno.test(
  "ControlServer keeps a detached invitation when its process is gone",
  onUnix,
  async () => {
    const invitations = new FakeInvitations();
    await withServer({ invitations }, async (_, locator) => {
      const detached = { ...INVITATION, name: undefined, isDetached: true };
      {
        using held = await addInvitation(locator, detached, forever);
        assert.deepEqual(await Array.fromAsync(held.events), []);
      }
      assert.deepEqual(invitations.added, [detached]);
      assert.deepEqual(await listInvitations(locator, forever), [
        JSON.parse(JSON.stringify(LISTED)),
      ]);
      assert.deepEqual(await withdrawInvitations(locator, "all", forever), [LISTED.id]);
      assert.deepEqual(await withdrawInvitations(locator, ["0123"], forever), ["0123"]);
      assert.deepEqual(invitations.withdrawn, []);
    });
  },
);

Deno.test("ControlServer tells a process why an invitation is not kept", onUnix, async () => {
  const invitations = new FakeInvitations();
  await withServer({ invitations }, async (_, locator) => {
    const long = addInvitation(locator, { ...INVITATION, validMs: 60_001 }, forever);
    await assert.rejects(long, { name: "Failure", message: "too long", hint: "x" });
  });
  const settings = parseSettings("p2p-iroh.lane\nfalse\0");
  await withServer({ invitations, settings }, async (_, locator) => {
    const unable = addInvitation(locator, INVITATION, forever);
    await assert.rejects(unable, /^Failure: with the setting lane = false/);
  });
});

Deno.test("addInvitation() says if the listener is gone", onUnix, async () => {
  const stopped = new AbortController(), invitations = new FakeInvitations();
  await withServer({ invitations, signal: stopped.signal }, async (_, locator) => {
    using held = await addInvitation(locator, INVITATION, forever);
    stopped.abort(new Error("stopped"));
    await assert.rejects(Array.fromAsync(held.events), { name: "ListenerGone" });
  });
});
