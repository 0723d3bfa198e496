/** Sessions that migrate to a lane while both ends send lose nothing. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { Connection } from "../lib/iroh/connection.ts";
import { answerLane, offerLane } from "../lib/lane/negotiation.ts";
import type { Lane } from "../lib/lane/lane.ts";
import { decodeOffer, encodeOffer } from "../lib/lane/offer.ts";
import {
  newSessionId,
  readStreamHeader,
  StreamType,
  writeStreamHeader,
} from "../lib/protocol/mux.ts";
import { Session } from "../lib/protocol/session.ts";
import type { Duplex } from "../lib/streams/duplex.ts";
import { makeConnection, randomBytes } from "./pair.ts";
import { concat, scenario, type TestEnv } from "./testenv.ts";

/** The kind of lane to which sessions migrate, and the number of sessions. */
const CHANGES = [["TLS", 300], ["QUIC", 60]] as const;

for (const [kind, changes] of CHANGES) {
  scenario(
    `lane: ${changes} sessions that migrate to ${kind} while both ends send lose nothing`,
    { limitMs: 240_000, takesTurns: true },
    async (env) => {
      // One connection permits fewer streams at once, so each stream must end at both ends.
      await using connection = await makeConnection(env);
      const { dialer, acceptor } = connection;
      for (let round = 0; round < changes; round++) {
        await migrateOnce(env, dialer, acceptor, round, kind);
      }
      dialer.close(0n, "");
    },
  );
}

/** Opens a session from one of the ends, and migrates it to a lane. */
async function migrateOnce(
  env: TestEnv,
  dialer: Connection,
  acceptor: Connection,
  session: number,
  kind: "TLS" | "QUIC",
): Promise<void> {
  const [opener, other] = session % 2 === 0 ? [dialer, acceptor] : [acceptor, dialer];
  const open = async (header: Parameters<typeof writeStreamHeader>[1]) => {
    const ours = await opener.open();
    await writeStreamHeader(ours, header);
    const theirs = await other.accept(env.signal);
    assert.deepEqual(await readStreamHeader(theirs), header);
    return [ours, theirs] as const;
  };
  const streams = await open({ type: StreamType.SESSION, session, id: newSessionId() });
  const messages = await open({ type: StreamType.LANE, session });
  const sessions = [
    new Session(streams[0], opener.closedError),
    new Session(streams[1], other.closedError),
  ] as const;
  const migrated = new AbortController();
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
  ]).finally(() => migrated.abort());
  const [kinds, up, down, ...received] = await Promise.all([
    negotiating, // here, so that its failure, too, is handled while the others go on
    sendAcross(sessions[0], migrated.signal),
    sendAcross(sessions[1], migrated.signal),
    receiveAll(sessions[1]),
    receiveAll(sessions[0]),
  ]);
  assert.deepEqual(kinds, [kind, kind]);
  for (const session of sessions) session.detach();
  assert.deepEqual(received, [up, down]);
}

/** Wraps a signaling stream so that its offer has no TCP addresses. */
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

/** Rewrites the first signaling message: a byte for its type, two for the length, and the offer. */
function offerWithoutTcp(message: Uint8Array): Uint8Array {
  const body = encodeOffer({ ...decodeOffer(message.subarray(3)), tcp: [] });
  return concat([Uint8Array.of(message[0]!, body.length >> 8, body.length & 0xff), body]);
}

/** Sends pieces of random length before, during and after the migration. @returns Their checksum. */
async function sendAcross(session: Session, migrated: AbortSignal): Promise<string> {
  const writer = session.writable.getWriter(), hash = createHash("sha256");
  for (let after = 0; after < 5; after += migrated.aborted ? 1 : 0) {
    const most = migrated.aborted ? 400_000 : 20_000; // enough for each connection of a lane
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
