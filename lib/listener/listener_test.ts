import assert from "node:assert/strict";
import { join } from "node:path";
import type { Incoming } from "../iroh/endpoint.ts";
import { DUMBPIPE_ALPN } from "../protocol/dumbpipe.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import { MUX_ALPN, newSessionId } from "../protocol/mux.ts";
import type { MuxConnection } from "../protocol/peer_connection.ts";
import type { Session } from "../protocol/session.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { Listener, type ListenerLimits } from "./listener.ts";
import { eventLoopTurns } from "../../tests/event_loop.ts";
import { type PairingAnswer, readAnswer, sendRequest } from "../pairing/messages.ts";
import { PairingServer } from "./pairing_server.ts";
import { TrafficMeter } from "./traffic.ts";
import { MemoryConnection } from "../../tests/memory_connection.ts";

const onUnix = { ignore: Deno.build.os === "windows" };
const LONG_MS = 60_000;
const text = new TextEncoder();
const AUTH_SUCCESS = "AUTH-SUCCESS 1234\n";
/** What a peer sends to open a session. */
const OPENING: ReadonlyMap<string, string> = new Map([
  [DUMBPIPE_ALPN, "hello"],
  [MUX_ALPN, "\x02\0\0\0\0" + "0123456789abcdef" + "\x01\0\0\0\x01"],
]);
/** What a connection is closed with that is refused before its handshake. */
const REFUSED = -1n;

/** The secret of an invitation, one of none, and the answer to a joiner. */
const RIGHT = new Uint8Array(16).fill(1), WRONG = new Uint8Array(16).fill(2);
const OVER: PairingAnswer = { kind: "over" };

/** Asks as a joiner would. */
async function ask(connection: MemoryConnection, secret: Uint8Array): Promise<PairingAnswer> {
  const stream = connection.openAsPeer();
  await sendRequest(stream, { kind: "done", secret });
  const answer = await readAnswer(stream);
  await stream.writable.close();
  return answer;
}

/** A dialed connection, with the peer's half of its only stream. */
class FakeConnection {
  readonly publicKey = new Uint8Array(32).fill(0xab);
  readonly path = { kind: "direct", address: "192.0.2.1:5" };
  /** Resolves with code and reason when this end closes. */
  readonly closed: Promise<readonly [bigint, string]>;
  readonly closedError: Promise<StreamError>;
  packetBytes = 0;
  packetBytesReceived = 0;
  /** The peer's answer to the close of this end, which is there by default. */
  answer: PromiseWithResolvers<void> = {
    ...Promise.withResolvers<void>(),
    promise: Promise.resolve(),
  };
  readonly close: (code: bigint, reason: string) => void;
  #input = new TransformStream<Uint8Array, Uint8Array<ArrayBuffer>>();
  #output = new TransformStream<Uint8Array, Uint8Array>();
  #writer = this.#input.writable.getWriter();
  #reader = this.#output.readable.getReader();
  #streams: Duplex[];

  /** @param opensStream False for a peer that opens no stream. */
  constructor(readonly alpn: string, opensStream: boolean) {
    const { promise, resolve } = Promise.withResolvers<readonly [bigint, string]>();
    this.closed = promise;
    this.close = (code, reason) => resolve([code, reason]);
    this.closedError = promise.then(() => new StreamError("closed", "closed"));
    this.#streams = opensStream
      ? [{ readable: bytesOf(this.#input.readable), writable: this.#output.writable }]
      : [];
  }

  noticeLossWithin(): void {} // it is never lost

  async closeAnswered(): Promise<void> {
    await this.answer.promise;
  }

  accept(signal: AbortSignal): Promise<Duplex> {
    const stream = this.#streams.shift();
    if (stream) return Promise.resolve(stream);
    return new Promise((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason))
    );
  }

  /** Sends as the peer. */
  say(data: string): void {
    this.#writer.write(text.encode(data)).catch(() => {}); // the listener has given up the stream
  }

  /** Ends the peer's direction. */
  end(): void {
    this.#writer.close().catch(() => {}); // the listener has given up the stream
  }

  /** Gives up the peer's direction. */
  reset(): void {
    this.#writer.abort(new StreamError("reset", "the peer gave up the stream"));
  }

  /** The next bytes for the peer. */
  async hear(): Promise<string> {
    return new TextDecoder().decode((await this.#reader.read()).value);
  }
}

/** A stream with the same bytes, of the kind that iroh's streams are. */
function bytesOf(
  readable: ReadableStream<Uint8Array<ArrayBuffer>>,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const reader = readable.getReader();
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      const { value } = await reader.read();
      if (value) return controller.enqueue(value);
      controller.close();
      controller.byobRequest?.respond(0);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

/** A listener, the endpoint that it serves, and git-annex's socket. */
class Scene implements AsyncDisposable {
  readonly listener: Listener;
  /** They hold for connections that arrive later. */
  readonly limits: { -readonly [Name in keyof ListenerLimits]?: ListenerLimits[Name] };
  readonly log: string[] = [];
  /** The connections on the mux protocol, in the order of their arrival. */
  readonly muxes: MuxConnection[] = [];
  /** What the listener counts for `status`. */
  readonly meter = new TrafficMeter();
  socketRefusals = 0;
  #arrivals = new TransformStream<Incoming, Incoming>();
  #writer = this.#arrivals.writable.getWriter();
  #running: Promise<void>;

  private constructor(
    readonly folder: string,
    readonly socketPath: string,
    limits: Partial<ListenerLimits>,
    maxConnections: number,
  ) {
    this.limits = {
      handshakeTimeoutMs: LONG_MS,
      authTimeoutMs: LONG_MS,
      peerCloseTimeoutMs: 1,
      ...limits,
    };
    this.listener = new Listener({
      endpoint: { incoming: () => this.#arrivals.readable.values() },
      socketPath,
      maxConnections,
      bind: undefined,
      report: (line) => this.log.push(line),
      socketRefused: () => this.socketRefusals++,
      pairing: new PairingServer({
        use: ({ secret }) => secret[0] === RIGHT[0] ? () => Promise.resolve(OVER) : undefined,
      }),
      connected: (mux) => this.muxes.push(mux),
      disconnected: () => {},
      meter: this.meter,
      limits: this.limits,
    });
    this.#running = this.listener.run();
  }

  static async make(limits: Partial<ListenerLimits> = {}, maxConnections = 10): Promise<Scene> {
    const folder = await Deno.makeTempDir();
    return new Scene(folder, join(folder, "socket"), limits, maxConnections);
  }

  #listen(): Deno.UnixListener {
    try {
      Deno.removeSync(this.socketPath); // Deno removes it a moment after the end of an earlier server
    } catch (error) {
      assert(error instanceof Deno.errors.NotFound);
    }
    return Deno.listen({ transport: "unix", path: this.socketPath });
  }

  /** Listens as git-annex: admits each peer at once, and returns what it says. */
  echo(): Disposable {
    const server = this.#listen();
    (async () => {
      for await (const connection of server) {
        await connection.write(text.encode(AUTH_SUCCESS));
        connection.readable.pipeTo(connection.writable).catch(() => {}); // the listener has closed
      }
    })();
    return server;
  }

  /** Listens as git-annex does for a peer that never says AUTH. */
  silence(): Disposable {
    const server = this.#listen();
    (async () => {
      for await (const connection of server) {
        new Response(connection.readable).arrayBuffer().catch(() => {}); // the listener has closed
      }
    })();
    return server;
  }

  dial(
    { alpn = DUMBPIPE_ALPN, source = "192.0.2.1", opensStream = true, isProven = true } = {},
  ): FakeConnection {
    return this.arrive(new FakeConnection(alpn, opensStream), source, isProven);
  }

  /** Has a connection arrive. If it is refused or ignored, or has to prove its address, it ends with code -1. */
  arrive<T extends Pick<FakeConnection, "close">>(
    connection: T,
    source = "192.0.2.1",
    isProven = true,
  ): T {
    const accept = (_signal: AbortSignal, onOver: () => void) => {
      onOver();
      return Promise.resolve(connection);
    };
    this.#ask(connection, { source, isProven, accept });
    return connection;
  }

  /** Has a dialer begin a handshake that it does not end. If it is refused, `refused` is called. */
  hang(source: string, refused: (code: bigint, why: string) => void, isProven = true): {
    over: () => void;
  } {
    const hanging = { over: () => {} };
    const accept = (signal: AbortSignal, onOver: () => void) => {
      hanging.over = onOver;
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason))
      );
    };
    this.#ask({ close: refused }, { source, isProven, accept });
    return hanging;
  }

  #ask(
    connection: Pick<FakeConnection, "close">,
    { source, isProven, accept }: {
      source: string;
      isProven: boolean;
      accept: (signal: AbortSignal, onOver: () => void) => Promise<unknown>;
    },
  ): void {
    const incoming = {
      source: () =>
        Promise.resolve({ name: source, dialer: isProven ? source : `${source}?`, isProven }),
      demandProof: () => Promise.resolve(connection.close(REFUSED, "proof")),
      refuse: () => Promise.resolve(connection.close(REFUSED, "refused")),
      ignore: () => Promise.resolve(connection.close(REFUSED, "ignored")),
      accept,
    };
    this.#writer.write(incoming as unknown as Incoming);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.listener.drain(1);
    await this.#writer.close();
    await this.#running;
    this.meter[Symbol.dispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

function milliseconds(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Keeps the test running: the timers of the listener do not. */
function interval(): Disposable {
  const timer = setInterval(() => {}, 1_000);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

Deno.test(
  "Listener joins a peer with git-annex, and closes when both have ended",
  onUnix,
  async () => {
    await using scene = await Scene.make();
    using _ = scene.echo();
    const connection = scene.dial();
    connection.say("hello");
    assert.equal(await connection.hear(), AUTH_SUCCESS);
    connection.say("word");
    assert.equal(await connection.hear(), "word");
    connection.end();
    assert.equal(await connection.hear(), "");
    assert.deepEqual(await connection.closed, [0n, ""]);
    assert.equal(scene.log[0], "ababababab (direct 192.0.2.1:5) connected");
    assert.match(scene.log[1]!, /was served after 0\.\d s, 4 bytes in, 22 out$/);
  },
);

for (const opensStream of [true, false]) {
  const peer = opensStream ? "says no hello" : "opens no stream";
  Deno.test(`Listener closes the connection of a peer that ${peer} in time`, onUnix, async () => {
    await using scene = await Scene.make({ handshakeTimeoutMs: 5 });
    using _keepAlive = interval();
    const connection = scene.dial({ opensStream });
    connection.say("hel");
    assert.deepEqual(await connection.closed, [4n, "no hello"]);
    assert.match(scene.log[0]!, /was turned away, no hello in time$/);
  });
}

Deno.test("Listener closes the connection of a peer that says something else", onUnix, async () => {
  await using scene = await Scene.make();
  const connection = scene.dial();
  connection.say("GET / HTTP/1.1\r\n");
  assert.deepEqual(await connection.closed, [4n, "no hello"]);
  assert.match(scene.log[0]!, /was turned away, not a hello$/);
});

Deno.test(
  "Listener closes the connection of a peer that resets its stream before hello",
  onUnix,
  async () => {
    await using scene = await Scene.make();
    const connection = scene.dial();
    connection.say("hel");
    connection.reset();
    assert.deepEqual(await connection.closed, [4n, "no hello"]);
    assert.match(scene.log[0]!, /was turned away, the peer gave up the stream$/);
  },
);

Deno.test(
  "Listener closes on a peer that git-annex does not admit in time",
  onUnix,
  async () => {
    await using scene = await Scene.make({ authTimeoutMs: 5 });
    using _ = scene.silence();
    using _keepAlive = interval();
    const connection = scene.dial();
    connection.say("hello");
    assert.deepEqual(await connection.closed, [5n, "not authenticated in time"]);
    await scene.listener.drain(1); // the line is written a moment later
    assert.match(scene.log.at(-1)!, /was turned away, it did not authenticate within 0\.005 s$/);
  },
);

Deno.test(
  "Listener tells the peer and the lifecycle if git-annex does not listen",
  onUnix,
  async () => {
    await using scene = await Scene.make();
    const connection = scene.dial();
    connection.say("hello");
    assert.deepEqual(await connection.closed, [2n, "git annex remotedaemon is not running"]);
    assert.equal(scene.socketRefusals, 1);
    assert.match(scene.log.at(-1)!, /was turned away, git-annex's socket does not answer, no such/);
  },
);

Deno.test("Listener refuses a peer while authenticated ones hold all permits", onUnix, async () => {
  await using scene = await Scene.make({}, 1);
  using _ = scene.echo();
  const friend = scene.dial();
  friend.say("hello");
  assert.equal(await friend.hear(), AUTH_SUCCESS);
  const late = scene.dial({ source: "192.0.2.2" });
  assert.equal((await late.closed)[0], REFUSED);
  assert.equal(
    scene.log.at(-1),
    "192.0.2.2 was refused, 1 permits are in use",
  );
  // After the tenth line, they are summed up later.
  const crowd = Array.from({ length: 20 }, () => scene.dial({ source: "192.0.2.2" }));
  await Promise.all(crowd.map(({ closed }) => closed));
  assert.equal(scene.log.filter((line) => line.includes("was refused")).length, 10);
  friend.end();
  await friend.closed;
  const next = scene.dial();
  next.say("hello");
  assert.equal(await next.hear(), AUTH_SUCCESS);
});

/** Exchanges bytes with git-annex, which says them again. */
async function assertEchoes(session: Session, text: string): Promise<void> {
  const writer = session.writable.getWriter(), reader = session.readable.getReader();
  if (text !== "") await writer.write(new TextEncoder().encode(text));
  const { value } = await reader.read();
  assert.equal(new TextDecoder().decode(value), text || AUTH_SUCCESS);
  writer.releaseLock();
  reader.releaseLock();
}

for (const sign of ["lost", "silent"] as const) {
  Deno.test(
    `Listener without a permit left lets a peer resume a session whose connection is ${sign}, and nothing else`,
    onUnix,
    async () => {
      await using scene = await Scene.make({}, 1);
      using _ = scene.echo();
      const id = newSessionId(), first = scene.arrive(new MemoryConnection());
      const session = await first.openSession(0, id, { onHomeLost: () => {} });
      await assertEchoes(session, "");
      const before = scene.arrive(new MemoryConnection(), "192.0.2.2");
      assert.equal((await before.closed)[0], REFUSED);

      if (sign === "lost") first.lose();
      else first.isSilent = true;
      const other = scene.arrive(new MemoryConnection(0xcd), "192.0.2.3");
      assert.deepEqual(await other.closed, [1n, "too many connections"]);

      const second = scene.arrive(new MemoryConnection(), "192.0.2.4");
      session.attachHome(await second.resumeSession(0, id), second.closedError);
      await assertEchoes(session, "word");
      first.lose();
      const late = scene.arrive(new MemoryConnection(0xcd), "192.0.2.5");
      assert.equal((await late.closed)[0], REFUSED);
      const more = await second.openSession(1);
      const error = await more.readable.getReader().read().then(() => undefined, (error) => error);
      assert(error instanceof StreamError && error.code === CloseCode.BUSY, `${error}`);
      await assertEchoes(session, "again");
    },
  );
}

Deno.test(
  "Listener without a permit left refuses a new session on the connection of a peer that may resume one",
  onUnix,
  async () => {
    await using scene = await Scene.make({}, 1);
    using _ = scene.echo();
    const first = scene.arrive(new MemoryConnection());
    await assertEchoes(await first.openSession(0, newSessionId(), { onHomeLost: () => {} }), "");
    first.lose();
    const more = await scene.arrive(new MemoryConnection()).openSession(0);
    const error = await more.readable.getReader().read().then(() => undefined, (error) => error);
    assert(error instanceof StreamError && error.code === CloseCode.BUSY, `${error}`);
  },
);

Deno.test(
  "Listener has a peer prove its address while strangers hold over a quarter of the permits",
  onUnix,
  async () => {
    await using scene = await Scene.make({}, 8);
    const dials = Array.from({ length: 4 }, (_, i) => {
      return scene.dial({ opensStream: false, isProven: false, source: `192.0.2.${i}` });
    });
    const ends = dials.map(({ closed }) => Promise.race([closed, eventLoopTurns(20)]));
    const unproven = [REFUSED, "proof"];
    assert.deepEqual(await Promise.all(ends), [undefined, undefined, undefined, unproven]);
    const proven = scene.dial({ opensStream: false });
    assert.equal(await Promise.race([proven.closed, eventLoopTurns(20)]), undefined);
  },
);

Deno.test("Listener: strangers cannot push what peers do out of the log", onUnix, async () => {
  await using scene = await Scene.make({ authTimeoutMs: 100 }, 100);
  using _keepAlive = interval();
  {
    using _ = scene.silence();
    const kinds: [alpn: string, said: string][] = [[DUMBPIPE_ALPN, "GET / HTTP"], ...OPENING];
    const strangers = Array.from({ length: 90 }, (_, i) => {
      const [alpn, said] = kinds[i % kinds.length]!;
      const stranger = scene.dial({ alpn, source: `192.0.2.${i}` });
      stranger.say(said);
      return stranger.closed;
    });
    await Promise.all(strangers);
  }
  scene.limits.authTimeoutMs = LONG_MS;
  using _ = scene.echo();
  const friend = scene.dial();
  friend.say("hello");
  assert.equal(await friend.hear(), AUTH_SUCCESS);
  friend.end();
  await friend.closed;
  const ofFriend = scene.log.slice(10);
  assert.equal(ofFriend.length, 2);
  assert.match(ofFriend[0]!, / connected$/);
  assert.match(ofFriend[1]!, / was served after /);
  await scene.listener.drain(1);
  assert.match(
    scene.log[12]!,
    /^\d+ events of strangers, the last: .* was turned away, it did not /,
  );
  assert.equal(scene.log.length, 13);
});

Deno.test("Listener counts no stranger among the peers that status shows", onUnix, async () => {
  await using scene = await Scene.make({ authTimeoutMs: 20 });
  using _keepAlive = interval();
  {
    using _ = scene.silence();
    const stranger = scene.dial();
    stranger.say("hello");
    stranger.end();
    await stranger.closed;
  }
  assert.deepEqual([...scene.meter.keys()], []);
  scene.limits.authTimeoutMs = LONG_MS;
  using _ = scene.echo();
  const friend = scene.dial();
  friend.say("hello");
  assert.equal(await friend.hear(), AUTH_SUCCESS);
  assert.deepEqual([...scene.meter.keys()], ["ab".repeat(32)]);
});

for (const alpn of [DUMBPIPE_ALPN, MUX_ALPN]) {
  Deno.test(
    `Listener limits what a stranger sends until it is let in, with ${alpn}`,
    onUnix,
    async () => {
      await using scene = await Scene.make({ maxWaitingBytes: 1_000_000, lookIntervalMs: 1 });
      {
        using _ = scene.silence();
        const stranger = scene.dial({ alpn });
        stranger.say(OPENING.get(alpn)!);
        stranger.packetBytesReceived = 3_000_000;
        assert.deepEqual(await stranger.closed, [4n, "against the protocol"]);
      }
      using _ = scene.echo();
      const friend = scene.dial({ alpn });
      friend.say(OPENING.get(alpn)!);
      while (!(await friend.hear()).includes(AUTH_SUCCESS));
      friend.packetBytesReceived = 3_000_000;
      const soon = new Promise((resolve) => setTimeout(resolve, 20));
      assert.equal(await Promise.race([friend.closed, soon]), undefined);
    },
  );
}

Deno.test(
  "Listener collects garbage after 200 connections, which V8 alone would not",
  onUnix,
  async () => {
    await using scene = await Scene.make();
    const program = globalThis as { collectGarbage?: () => void };
    let collections = 0;
    program.collectGarbage = () => collections++;
    try {
      for (let i = 0; i < 201; i++) {
        const stranger = scene.dial({ source: `192.0.2.${i}` });
        stranger.say("GET / HTTP");
        await stranger.closed;
      }
    } finally {
      delete program.collectGarbage;
    }
    assert.equal(collections, 1);
  },
);

Deno.test(
  "Listener does not answer a dialer that does not end its handshakes, and no other",
  onUnix,
  async () => {
    await using scene = await Scene.make({ handshakeTimeoutMs: 100 }, 100);
    using _keepAlive = interval();
    const told: string[] = [];
    const hang = () => scene.hang("192.0.2.2", (_code, why) => told.push(why));
    const hanging = Array.from({ length: 32 }, hang);
    const inVain = () => scene.log.filter((line) => line.includes("no hello in time")).length;
    while (inVain() < 10) await eventLoopTurns(2); // their permits are free again, but iroh's memory is not
    scene.limits.handshakeTimeoutMs = LONG_MS;
    hang();
    await eventLoopTurns(5);
    assert.deepEqual(told, ["ignored"]);
    const other = scene.dial({ opensStream: false });
    assert.equal(await Promise.race([other.closed, eventLoopTurns(5)]), undefined);
    hanging[0]!.over();
    for (let before = -1; told.length > before;) { // a second after it began
      before = told.length;
      hang();
      await eventLoopTurns(5);
    }
    assert.deepEqual(new Set(told), new Set(["ignored"]));
  },
);

Deno.test(
  "Listener answers 32 dials of a source in a second, unless git-annex lets them in",
  onUnix,
  async () => {
    await using scene = await Scene.make({}, 100);
    using _ = scene.echo();
    for (let i = 0; i < 40; i++) {
      const friend = scene.dial();
      friend.say("hello");
      while (!(await friend.hear()).includes(AUTH_SUCCESS));
    }
    const strangers = Array.from({ length: 33 }, () => scene.dial({ opensStream: false }));
    assert.deepEqual(await strangers[32]!.closed, [REFUSED, "ignored"]);
    const ended = strangers.slice(0, 32).map(({ closed }) => closed);
    const other = scene.dial({ source: "192.0.2.2", opensStream: false });
    assert.equal(await Promise.race([...ended, other.closed, eventLoopTurns(5)]), undefined);
  },
);

Deno.test(
  "Listener: packets that seem to come from a peer do not keep it out",
  onUnix,
  async () => {
    await using scene = await Scene.make({ handshakeTimeoutMs: 100 }, 200);
    using _keepAlive = interval();
    const told: string[] = [];
    const spoof = () => scene.hang("192.0.2.2", (_code, why) => told.push(why), false);
    for (let i = 0; i < 33; i++) spoof();
    await eventLoopTurns(20);
    assert.deepEqual(told, ["proof"]);
    scene.limits.handshakeTimeoutMs = LONG_MS;
    const peer = scene.dial({ source: "192.0.2.2", opensStream: false });
    assert.equal(await Promise.race([peer.closed, eventLoopTurns(5)]), undefined);
  },
);

Deno.test(
  "Listener closes the connection that was unused for longest if more than max-connections are kept",
  onUnix,
  async () => {
    await using scene = await Scene.make({}, 2);
    using _ = scene.echo();
    const peers = [1, 2].map((key) => scene.arrive(new MemoryConnection(key)));
    const sessions = await Promise.all(peers.map((peer) => peer.openSession(0)));
    const readers = sessions.map(({ readable }) => readable.getReader());
    for (const reader of readers) await reader.read(); // AUTH-SUCCESS
    for (const which of [1, 0]) {
      await sessions[which]!.writable.getWriter().close();
      while (!(await readers[which]!.read()).done);
      while (scene.muxes[which]!.idleSince === undefined) await eventLoopTurns(1);
    }
    scene.arrive(new MemoryConnection(3));
    const closed = await Promise.race([peers[1]!.closed, eventLoopTurns(20)]);
    assert.deepEqual(closed, [0n, ""]);
    assert.equal(await Promise.race([peers[0]!.closed, eventLoopTurns(5)]), undefined);
  },
);

for (const alpn of [DUMBPIPE_ALPN, MUX_ALPN]) {
  Deno.test(`Listener evicts the oldest stranger of a flood, with ${alpn}`, onUnix, async () => {
    await using scene = await Scene.make({}, 4);
    const flood = Array.from({ length: 5 }, () => scene.dial({ alpn, opensStream: false }));
    assert.deepEqual(await flood[0]!.closed, [1n, "too many connections"]);
    assert.match(scene.log[0]!, /was turned away, another peer got its permit/);
    const ended = flood.slice(1).map(({ closed }) => closed);
    assert.equal(await Promise.race([...ended, Promise.resolve("open")]), "open");
  });
}

Deno.test(
  "Listener drains: waits for a session that moves data, and tells its peer",
  onUnix,
  async () => {
    await using scene = await Scene.make({ quietIntervalMs: 20 });
    using _ = scene.echo();
    const connection = scene.dial();
    connection.say("hello");
    assert.equal(await connection.hear(), AUTH_SUCCESS);
    let looks = 0;
    Object.defineProperty(connection, "packetBytes", {
      get: () => looks++ < 5 ? looks * 20_000 : 100_000,
    });
    const draining = scene.listener.drain(LONG_MS);
    const late = scene.dial({ source: "192.0.2.2" });
    assert.equal((await late.closed)[0], REFUSED);
    assert.match(scene.log.at(-1)!, / was refused, this program is stopping$/);
    await draining;
    assert(looks > 5, `${looks} looks`);
    assert.deepEqual(await connection.closed, [3n, "stopped"]);
  },
);

Deno.test(
  "Listener drains: waits until its peers have answered its close, but not for long",
  onUnix,
  async () => {
    await using scene = await Scene.make({ quietIntervalMs: 1 });
    using _ = scene.echo();
    using _keepAlive = interval();
    const [one, silent] = [scene.dial(), scene.dial()];
    for (const connection of [one, silent]) {
      connection.say("hello");
      assert.equal(await connection.hear(), AUTH_SUCCESS);
      connection.answer = Promise.withResolvers();
    }
    const draining = scene.listener.drain(1).then(() => "drained");
    assert.deepEqual(await one.closed, [3n, "stopped"]);
    one.answer.resolve();
    assert.equal(await Promise.race([draining, milliseconds(100)]), undefined);
    silent.answer.reject(new Error("not for long")); // as after the time limit
    assert.equal(await draining, "drained");
  },
);

Deno.test("Listener drains: does not wait longer than it is told", onUnix, async () => {
  await using scene = await Scene.make({ quietIntervalMs: 1 });
  using _ = scene.echo();
  const connection = scene.dial();
  connection.say("hello");
  assert.equal(await connection.hear(), AUTH_SUCCESS);
  let moved = 0;
  Object.defineProperty(connection, "packetBytes", { get: () => moved += 20_000 });
  await scene.listener.drain(20);
  assert.deepEqual(await connection.closed, [3n, "stopped"]);
});

Deno.test("Listener: a joiner with an invitation holds no permit", onUnix, async () => {
  await using scene = await Scene.make({}, 1);
  using _annex = scene.echo();
  const joiner = scene.arrive(new MemoryConnection());
  assert.deepEqual(await ask(joiner, RIGHT), OVER);
  const friend = scene.dial({ source: "198.51.100.1" });
  friend.say("hello");
  assert.equal(await friend.hear(), AUTH_SUCCESS);
  assert.deepEqual(await ask(joiner, RIGHT), OVER);
  friend.end();
  await friend.closed;
});

Deno.test(
  "Listener: a peer without an invitation is a stranger, and in the log",
  onUnix,
  async () => {
    await using scene = await Scene.make();
    const stranger = scene.arrive(new MemoryConnection());
    for (let i = 0; i < 4; i++) assert.deepEqual(await ask(stranger, WRONG), { kind: "refused" });
    assert.deepEqual(await stranger.closed, [
      CloseCode.NOT_AUTHENTICATED,
      "not authenticated in time",
    ]);
    while (scene.log.length === 0) await eventLoopTurns(1);
    assert.match(scene.log.join(), /abababab.* was turned away, it has no valid invitation/);
    assert.equal(scene.muxes[0]!.isAuthenticated, false);
  },
);
