/** However much strangers send, they take little, and paired peers get in. */

import assert from "node:assert/strict";
import { CloseCode } from "../lib/protocol/close_codes.ts";
import { MUX_ALPN, newSessionId, StreamType, writeStreamHeader } from "../lib/protocol/mux.ts";
import { StreamError } from "../lib/streams/duplex.ts";
import type { Connection } from "../lib/iroh/connection.ts";
import { makeFriends } from "./friends.ts";
import { addressAt, echo, listenerPort, makePair, type Pair } from "./pair.ts";
import { initialPacket, isRetry } from "./quic_initial.ts";
import { dial, send } from "./strangers.ts";
import { openFilesOf, scenario, type TestEnv } from "./testenv.ts";
import { answered, SLOW, THROUGH } from "./warm.ts";

const text = new TextDecoder();

/** Like git-annex, silent until a peer sends a token. */
async function echoAfterToken(connection: Deno.UnixConn): Promise<void> {
  if (await connection.read(new Uint8Array(100)) !== null) await echo(connection);
}

/** Opens a session. @returns The code with which the peer resets it, or undefined if git-annex says something. */
async function codeOfSession(connection: Connection, session: number): Promise<bigint | undefined> {
  const stream = await connection.open();
  await writeStreamHeader(stream, { type: StreamType.SESSION, session, id: newSessionId() });
  try {
    await stream.readable.getReader().read();
    return undefined;
  } catch (error) {
    assert(error instanceof StreamError, `${error}`);
    return error.code;
  }
}

/** Exchanges a word with a listener, as a peer with a token. */
async function exchange(pair: Pair): Promise<void> {
  const run = await (await pair.connect({ stdin: "TOKEN" })).ended;
  assert.equal(run.code, 0, run.stderr);
}

scenario(
  "serve resets what a stranger opens beyond four sessions of a connection, and peers get in",
  { needs: ["proc"] },
  async (env) => {
    const pair = await makePair(env, "loopback", echoAfterToken);
    const before = await openFilesOf(pair.listener.pid);
    const connections = await Promise.all(
      Array.from({ length: 3 }, () => dial(env, pair, MUX_ALPN)),
    );
    const codes = await Promise.all(connections.map(async (connection) => {
      const sessions = Array.from({ length: 10 }, (_, i) => codeOfSession(connection, i));
      for (const session of sessions) session.catch(() => {}); // four stay open to the end of the test
      const reset: (bigint | undefined)[] = [];
      for (const session of sessions) session.then((code) => reset.push(code), () => {});
      await env.until("all others to be reset", () => reset.length === 6);
      return reset;
    }));
    assert.deepEqual(new Set(codes.flat()), new Set([CloseCode.BUSY]));
    await env.until("the four of each to be served", () => pair.fakeAnnex.open >= 12);
    assert.equal(pair.fakeAnnex.most, 12);
    assert(await openFilesOf(pair.listener.pid) <= before + 20);
    await exchange(pair);
  },
);

scenario("warm: eight processes at once get through a fresh connection", {}, async (env) => {
  const admits = Promise.withResolvers<void>(); // as a git-annex that is busy for a while
  const [a, b] = await makeFriends(env, async (connection) => {
    await admits.promise;
    await echo(connection);
  });
  const address = await a.at();
  const processes = await Promise.all(
    Array.from({ length: 8 }, (_, i) => b.connect(address, { stdin: `${i}` })),
  );
  await env.until("four to be served", () => a.fakeAnnex.open >= 4);
  admits.resolve();
  for (const [i, process] of processes.entries()) {
    const { code, stdout, stderr } = await process.ended;
    assert.deepEqual([code, stdout], [0, answered(`${i}`)], stderr);
  }
  // A process whose listener was slow has connected by itself, too.
  const slow = processes.filter(({ stderr }) => SLOW.test(stderr)).length;
  assert(processes.some(({ stderr }) => THROUGH.test(stderr)));
  const { total } = a.fakeAnnex;
  assert(total >= 8 && total <= 8 + slow, `${total} sessions, ${slow} slow`);
});

scenario(
  "serve says that it is busy, and not that git-annex is gone, if it has too many open files",
  { needs: ["proc"], waits: true, limitMs: 90_000 },
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    pair.listener.kill("SIGTERM");
    await pair.listener.ended;
    const host = pair.network.a;
    const few = 'ulimit -n 64; exec git-annex-p2p-iroh "$@"';
    const listener = await env.start(["sh", "-c", few, "sh", pair.address, pair.fakeAnnex.path], {
      on: host,
      cwd: pair.repository,
    });
    await listener.says(/serving endpoint/);
    const port = await listenerPort(host, pair.address);
    const dialed = { ...pair, dialed: addressAt(pair.address, `127.0.0.1:${port}`) };
    const connection = await dial(env, dialed, MUX_ALPN);
    assert.equal(await codeOfSession(connection, 0), undefined);
    const codes = await Promise.all(
      Array.from({ length: 60 }, (_, i) => codeOfSession(connection, i + 1)),
    );
    const refused = codes.filter((code) => code !== undefined);
    assert(refused.length > 0 && refused.length < codes.length, `${refused.length} refused`);
    assert.deepEqual(new Set(refused), new Set([CloseCode.BUSY]));
    assert.equal(listener.code, undefined);
    connection.close(0n, "");
    await env.until("git-annex's sides to be closed", () => pair.fakeAnnex.open === 0);
    assert.equal(await codeOfSession(await dial(env, dialed, MUX_ALPN), 0), undefined);
  },
);

scenario("serve closes the connection of a stranger that fills the memory", {}, async (env) => {
  const pair = await makePair(env, "loopback", echoAfterToken);
  const [flood, other] = await Promise.all([dial(env, pair), dial(env, pair)]);
  const stream = await other.open();
  for (const first of [await flood.open(), stream]) await send(first, "hello");
  // The listener reads no further stream of a connection on dumbpipe's protocol.
  const further = await Promise.all(Array.from({ length: 30 }, () => flood.open()));
  for (const { writable } of further) {
    writable.getWriter().write(new Uint8Array(1_000_000)).catch(() => {}); // the listener closes the connection
  }
  const end = await env.within(flood.closed);
  assert.deepEqual([end.by, end.by === "peer" && end.code], ["peer", CloseCode.BAD_HELLO]);
  await pair.listener.says(/was turned away, it sent too much before git-annex let it in/);
  await send(stream, "TOKEN");
  assert.match(text.decode((await stream.readable.getReader().read()).value), /^AUTH-SUCCESS/);
});

/** Sends first packets from many addresses that never answer, until it is disposed of. */
function flood(env: TestEnv, port: number): Disposable {
  const to = { transport: "udp", hostname: "127.0.0.1", port } as const;
  const sockets = Array.from({ length: 60 }, (_, i) => {
    return Deno.listenDatagram({ transport: "udp", hostname: `127.0.1.${i + 1}`, port: 0 });
  });
  const packets = Array.from({ length: 60 }, initialPacket);
  let sent = 0;
  const timer = setInterval(() => {
    const [socket, packet] = [sockets[sent % 60]!, packets[(sent * 7) % 60]!];
    socket.send(packet, to).catch((error) => env.fail(error));
    sent++;
  }, 10);
  return {
    [Symbol.dispose]() {
      clearInterval(timer);
      for (const socket of sockets) socket.close();
    },
  };
}

scenario(
  "serve lets peers in although packets come from many addresses that do not answer",
  { needs: ["namespaces"] },
  async (env) => {
    const settings = { GIT_ANNEX_P2P_IROH_MAX_CONNECTIONS: "20" };
    const pair = await makePair(env, "loopback", echoAfterToken, settings);
    const port = await listenerPort(pair.network.a, pair.address);
    using _flood = flood(env, port);
    const socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.2.1", port: 0 });
    env.cleanup(() => Promise.resolve(socket.close()));
    const to = { transport: "udp", hostname: "127.0.0.1", port } as const;
    let isDemanded = false;
    (async () => {
      for await (const [packet] of socket) isDemanded ||= isRetry(packet);
    })().catch((error) => env.fail(error));
    await env.until("the listener to demand a proof", async () => {
      await socket.send(initialPacket(), to);
      return isDemanded;
    });
    for (let i = 0; i < 3; i++) await exchange(pair);
  },
);
