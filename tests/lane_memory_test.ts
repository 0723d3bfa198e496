/** What the listener's memory holds for sessions whose readers stand still. */

import assert from "node:assert/strict";
import { LaneUpgrade } from "../lib/connect/lane_upgrade.ts";
import type { Connection } from "../lib/iroh/connection.ts";
import { Endpoint } from "../lib/iroh/endpoint.ts";
import { CloseCode } from "../lib/protocol/close_codes.ts";
import { MUX_ALPN, newSessionId, StreamType, writeStreamHeader } from "../lib/protocol/mux.ts";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { makeFriend } from "./friends.ts";
import { makeLoopback } from "./network.ts";
import { AUTH_SUCCESS, randomBytes, writeAll } from "./pair.ts";
import { memoryOf, scenario, type TestEnv } from "./testenv.ts";

const CONNECTIONS = 4, SESSIONS_EACH = 25;
const MAX_MEBIBYTES = 300;
const MB = 1_000_000;
/** What each reader takes before it stands still, so that the credit of its sender has grown. */
const TAKEN_BYTES = 4 * MB;
/** Time without a byte after which nothing moves any longer. */
const STILL_MS = 3_000;

/** git-annex that takes and sends, then reads no further, and goes on to send. */
async function standStill(connection: Deno.UnixConn): Promise<void> {
  await writeAll(connection, new TextEncoder().encode(AUTH_SUCCESS));
  const chunk = randomBytes(64 * 1024), sending = sendForever(connection, chunk);
  const buffer = new Uint8Array(256 * 1024);
  for (let taken = 0; taken < TAKEN_BYTES;) taken += await connection.read(buffer) ?? Infinity;
  await sending;
}

async function sendForever(connection: Deno.UnixConn, chunk: Uint8Array): Promise<never> {
  for (;;) await writeAll(connection, chunk);
}

/** Opens a session with a lane, takes and sends as {@linkcode standStill} does. */
async function openSession(connection: Connection, id: number, env: TestEnv): Promise<LaneUpgrade> {
  const stream = await connection.open();
  const header = { type: StreamType.SESSION, session: id, id: newSessionId() } as const;
  await writeStreamHeader(stream, header);
  const onLane = Promise.withResolvers<void>();
  const upgrade = new LaneUpgrade({
    stream,
    connectionClosed: connection.closedError,
    peerKey: () => Promise.resolve(connection.publicKey.toHex()),
    async openLane() {
      const stream = await connection.open();
      await writeStreamHeader(stream, { type: StreamType.LANE, session: id });
      const addresses = { local: ["127.0.0.1"], observedRemote: "127.0.0.1" };
      return { stream, addresses, [Symbol.dispose]() {} };
    },
    onLane: onLane.resolve,
    resume: () => Promise.reject(new Error("the connection stays")),
    signal: env.signal,
  });
  const { readable, writable } = upgrade.session;
  const writer = writable.getWriter(), chunk = randomBytes(64 * 1024);
  (async () => {
    for (;;) await writer.write(chunk);
  })().catch(() => {}); // the session is over
  const reader = readable.getReader();
  for (let taken = 0; taken < TAKEN_BYTES;) {
    const { value } = await env.within(reader.read());
    taken += value!.length;
    upgrade.session.release(value!);
  }
  await env.within(onLane.promise);
  return upgrade;
}

scenario(
  `lane: ${
    CONNECTIONS * SESSIONS_EACH
  } sessions whose readers stand still take at most ${MAX_MEBIBYTES} MiB`,
  { needs: ["proc"], limitMs: 240_000, takesTurns: true },
  async (env) => {
    const { a } = await makeLoopback(env);
    a.env.GIT_ANNEX_P2P_IROH_MAX_CONNECTIONS = "200";
    const friend = await makeFriend(env, a, standStill);
    const { publicKey, direct } = decodeTicket(await friend.at());
    await using endpoints = new AsyncDisposableStack();
    using upgrades = new DisposableStack();
    const opened: LaneUpgrade[] = [];
    for (let i = 0; i < CONNECTIONS; i++) {
      const endpoint = endpoints.use(
        await Endpoint.bind({ relay: { kind: "none" }, lookup: false, bind: "127.0.0.1:0" }),
      );
      const connection = await endpoint.connect({ publicKey, direct }, MUX_ALPN, env.signal);
      endpoints.defer(() => connection.closeAndSend(CloseCode.DONE, ""));
      for (let id = 0; id < SESSIONS_EACH; id++) {
        opened.push(upgrades.use(await openSession(connection, id, env)));
      }
    }
    const moved = () =>
      opened.reduce((sum, { session: { sent, received } }) => sum + sent + received, 0);
    let last = 0, since = 0;
    await env.until("all to stand still", () => {
      if (moved() !== last) [last, since] = [moved(), performance.now()];
      return performance.now() - since > STILL_MS;
    });
    assert(opened.every(({ session }) => session.lane !== undefined));
    const memory = await memoryOf(friend.listener.pid);
    console.log(`  ${Math.round(memory)} MiB`);
    assert(memory <= MAX_MEBIBYTES, `${memory} MiB`);
  },
);
