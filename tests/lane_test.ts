/** Large transfers on a direct connection beside iroh's. */

import { createHash } from "node:crypto";
import type { Duplex } from "../lib/streams/duplex.ts";
import type { Connection } from "../lib/iroh/connection.ts";
import type { Lane } from "../lib/lane/lane.ts";
import { decodeOffer, encodeOffer } from "../lib/lane/offer.ts";
import { answerLane, offerLane } from "../lib/lane/negotiation.ts";
import { readStreamHeader, StreamType, writeStreamHeader } from "../lib/protocol/mux.ts";
import { Session } from "../lib/protocol/session.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { closeFirewall, makeNetwork } from "./network.ts";
import {
  AUTH_SUCCESS,
  checksumOf,
  dumbpipeListener,
  echo,
  FakeAnnex,
  listenerPort,
  makeConnection,
  makePair,
  type Pair,
  randomBytes,
  readChecksum,
  writeAll,
} from "./pair.ts";
import {
  concat,
  type Host,
  memoryOf,
  openFilesOf,
  scenario,
  type ScenarioOptions,
  type TestEnv,
} from "./testenv.ts";

const DEBUG = { GIT_ANNEX_P2P_IROH_LOG: "debug" };
const needs = ["namespaces"] as const;
const withIptables: ScenarioOptions = { needs: [...needs, "iptables"], limitMs: 120_000 };

/** Sends data there and back, and returns what the dialing process has said. */
async function exchange(pair: Pair, bytes: number): Promise<string> {
  const data = randomBytes(bytes);
  const { code, stdoutBytes, stderr } = await (await pair.connect({ stdin: data, env: DEBUG }))
    .ended;
  assert.equal(code, 0, stderr);
  await assertEchoed(stdoutBytes, data);
  return stderr;
}

async function assertEchoed(stdout: Uint8Array, data: Uint8Array): Promise<void> {
  const back = stdout.subarray(AUTH_SUCCESS.length);
  assert.equal(back.length, data.length);
  assert.equal(await checksumOf(back), await checksumOf(data));
}

async function drop(env: TestEnv, host: Host, ...rule: string[]): Promise<void> {
  await env.ok(["iptables", "-A", "INPUT", "-i", "eth0", ...rule], { on: host });
}

scenario(
  "lane: much data moves to TLS over TCP, and little stays with iroh",
  { needs },
  async (env) => {
    const pair = await makePair(env, "direct", echo);
    assert.match(await exchange(pair, 30_000_000), /lane: TLS with 10\.77\.0\.1:\d+\n/);
    assert.doesNotMatch(await exchange(pair, 50_000), /lane/);
    assert.doesNotMatch(await pair.log(), /failed|turned away|lost/);
  },
);

scenario("lane: is made, too, when it is offered a moment before the peer is let in", {
  needs,
}, async (env) => {
  const pair = await makePair(env, "direct", async (connection) => {
    // More than what begins the lane, and then some.
    for (let read = 0; read < 400_000;) {
      read += await connection.read(new Uint8Array(64 * 1024)) ?? Infinity;
    }
    await writeAll(connection, new TextEncoder().encode(AUTH_SUCCESS));
    await readChecksum(connection);
  });
  const dialer = await pair.connect({ stdin: randomBytes(20_000_000), env: DEBUG });
  const { code, stderr } = await dialer.ended;
  assert.equal(code, 0);
  assert.match(stderr, /lane: TLS with 10\.77\.0\.1:\d+\n/);
});

scenario("lane: ends that let in nothing unasked meet over QUIC", withIptables, async (env) => {
  const pair = await makePair(env, "direct", echo);
  // Iroh's own connection began before, as by hole punching.
  const dialer = await pair.connect({ stdin: "open", env: DEBUG });
  await dialer.says(/AUTH-SUCCESS/);
  for (const host of [pair.network.a, pair.network.b]) {
    await drop(env, host, "-m", "state", "--state", "NEW,INVALID", "-j", "DROP");
  }
  const data = randomBytes(20_000_000);
  await dialer.write(data);
  await dialer.end();
  const { code, stdoutBytes, stderr } = await dialer.ended;
  assert.equal(code, 0);
  assert.match(stderr, /lane: QUIC with 10\.77\.0\.1:\d+\n/);
  await assertEchoed(stdoutBytes, data);
});

const NOTHING_STAYS =
  "lane: over QUIC, four connections, of which nothing stays open, or in memory";
scenario(NOTHING_STAYS, { ...withIptables, takesTurns: true }, async (env) => {
  const pair = await makePair(env, "direct", echo);
  const { network, listener: { pid } } = pair;
  await closeFirewall(network.a, await listenerPort(network.a, pair.address));
  await closeFirewall(network.b);
  await exchange(pair, 1000);
  const before = await openFilesOf(pid);
  const memory: number[] = [];
  for (let i = 0; i < 12; i++) {
    const said = await exchange(pair, 3_000_000);
    assert.match(said, /lane: 4 connections\n/);
    assert.match(said, /lane: QUIC with [^ ]+\n/);
    memory.push(Math.round(await memoryOf(pid)));
  }
  assert(memory.at(-1)! - memory[0]! < 15, `memory: ${memory} MiB`); // 40, once
  await env.until("the sockets to be closed", async () => await openFilesOf(pid) <= before + 1);
});

scenario("lane: where none gets through, iroh carries on", withIptables, async (env) => {
  const pair = await makePair(env, "direct", echo);
  const dialer = await pair.connect({ stdin: "open", env: DEBUG });
  await dialer.says(/AUTH-SUCCESS/);
  const { port } = /direct 10\.77\.0\.1:(?<port>\d+)/.exec(dialer.stderr)!.groups!;
  for (const host of [pair.network.a, pair.network.b]) {
    await drop(env, host, "-p", "tcp", "-j", "DROP");
  }
  // Of UDP, only iroh's own.
  await drop(env, pair.network.a, "-p", "udp", "!", "--dport", port!, "-j", "DROP");
  await drop(env, pair.network.b, "-p", "udp", "!", "--sport", port!, "-j", "DROP");
  const data = randomBytes(5_000_000);
  await dialer.write(data);
  await dialer.says(/no lane: /);
  await dialer.end();
  const { code, stdoutBytes } = await dialer.ended;
  assert.equal(code, 0);
  await assertEchoed(stdoutBytes, data);
});

for (const side of ["listener", "dialer"] as const) {
  scenario(`lane: the ${side} can turn it off`, { needs }, async (env) => {
    const off = { GIT_ANNEX_P2P_IROH_LANE: "false" };
    const pair = await makePair(env, "direct", echo, side === "listener" ? off : {});
    const data = randomBytes(2_000_000);
    const on = { GIT_ANNEX_P2P_IROH_LANE: "true" };
    const setting = side === "dialer" ? off : on;
    for (const isKnown of [false, true]) { // of the peer, once it has been found out
      const dialer = await pair.connect({ stdin: data, env: { ...DEBUG, ...setting } });
      const { code, stdoutBytes, stderr } = await dialer.ended;
      assert.equal(code, 0);
      assert.doesNotMatch(stderr, /lane/);
      assert.equal(/another protocol/.test(stderr), side === "listener" && !isKnown);
      await assertEchoed(stdoutBytes, data);
    }
  });
}

scenario("lane: that a peer speaks dumbpipe's protocol alone is found out once", {
  needs: [...needs, "dumbpipe"],
}, async (env) => {
  const { a, b } = await makeNetwork(env, "lan");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  const { ticket } = await dumbpipeListener(env, a, fakeAnnex.path);
  const dial = async () => {
    const run = await env.iroh([ticket], { on: b, stdin: "hello\n", env: DEBUG });
    assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}hello\n`]);
    return run.stderr;
  };
  assert.match(await dial(), /another protocol/);
  assert.doesNotMatch(await dial(), /another protocol/);
});

/** To what sessions move, and how many of them. */
const CHANGES = [["TLS", 300], ["QUIC", 60]] as const;

for (const [kind, changes] of CHANGES) {
  scenario(
    `lane: sessions that move to ${kind} while both ends send, ${changes} times, lose nothing`,
    { limitMs: 240_000, takesTurns: true },
    async (env) => {
      // All on one connection, which has far fewer streams at once: so each must end at both its ends.
      await using connection = await makeConnection(env);
      const { dialer, acceptor } = connection;
      for (let round = 0; round < changes; round++) {
        await migrateOnce(env, dialer, acceptor, round, kind);
      }
      dialer.close(0n, "");
    },
  );
}

/** One session on a connection, opened by either end, and its move to a lane. */
async function migrateOnce(
  env: TestEnv,
  dialer: Connection,
  acceptor: Connection,
  session: number,
  kind: "TLS" | "QUIC",
): Promise<void> {
  const [opener, other] = session % 2 === 0 ? [dialer, acceptor] : [acceptor, dialer];
  const open = async (type: typeof StreamType.SESSION | typeof StreamType.LANE) => {
    const ours = await opener.open();
    await writeStreamHeader(ours, type, session);
    const theirs = await other.accept(env.signal);
    assert.deepEqual(await readStreamHeader(theirs), { type, session });
    return [ours, theirs] as const;
  };
  const streams = await open(StreamType.SESSION), messages = await open(StreamType.LANE);
  const sessions = [
    new Session(streams[0], opener.closedError),
    new Session(streams[1], other.closedError),
  ] as const;
  const moved = new AbortController();
  const addresses = { local: ["127.0.0.1"], observedRemote: "127.0.0.1" };
  const [offering, answering] = kind === "QUIC" ? messages.map(withoutTcp) : messages;
  const options = { addresses, signal: env.signal };
  const migrate = async (making: Promise<Lane | undefined>, session: Session) => {
    const lane = await making;
    session.attachLane(lane!);
    return lane!.kind;
  };
  const negotiating = Promise.all([
    migrate(offerLane(offering!, options), sessions[0]),
    migrate(answerLane(answering!, true, options), sessions[1]),
  ]).finally(() => moved.abort());
  const [kinds, up, down, ...received] = await Promise.all([
    negotiating, // here, so that its failure, too, is handled while the others go on
    sendAcross(sessions[0], moved.signal),
    sendAcross(sessions[1], moved.signal),
    receiveAll(sessions[1]),
    receiveAll(sessions[0]),
  ]);
  assert.deepEqual(kinds, [kind, kind]);
  for (const session of sessions) session.detach();
  assert.deepEqual(received, [up, down]);
}

/** A lane stream on which offers say nothing of TCP. */
function withoutTcp({ readable, writable }: Duplex): Duplex {
  const writer = writable.getWriter();
  let isFirst = true;
  return {
    readable,
    writable: new WritableStream({
      write(message) {
        const passed = isFirst ? offerWithoutTcp(message) : message;
        isFirst = false;
        return writer.write(passed);
      },
      close: () => writer.close(),
      abort: (reason) => writer.abort(reason),
    }),
  };
}

/** The first message of a lane stream: a byte for its kind, two for the length, and the offer. */
function offerWithoutTcp(message: Uint8Array): Uint8Array {
  const body = encodeOffer({ ...decodeOffer(message.subarray(3)), tcp: [] });
  return concat([Uint8Array.of(message[0]!, body.length >> 8, body.length & 0xff), body]);
}

/** Sends pieces of any length before, during and after the move. @returns Their checksum. */
async function sendAcross(session: Session, moved: AbortSignal): Promise<string> {
  const writer = session.writable.getWriter(), hash = createHash("sha256");
  for (let after = 0; after < 5; after += moved.aborted ? 1 : 0) {
    const most = moved.aborted ? 400_000 : 20_000; // round all connections of a lane
    const piece = randomBytes(1 + Math.floor(Math.random() * most));
    hash.update(piece);
    await writer.write(piece);
    if (Math.random() < 0.5) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  await writer.close();
  return hash.digest("hex");
}

async function receiveAll(session: Session): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of session.readable) {
    hash.update(chunk);
    session.release(chunk);
  }
  return hash.digest("hex");
}
