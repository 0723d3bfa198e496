/**
 * many_dials.ts ADDRESS RELAY COUNT PROTOCOL: makes COUNT connections one after another, each with a new key.
 *
 * PROTOCOL is `dumbpipe` or `mux`. After each hundred connections it prints `N done`, and waits for a line on
 * stdin. All are made by one process, since a test measures the listener and not the start of programs.
 */

import assert from "node:assert/strict";
import type { Duplex } from "../../lib/streams/duplex.ts";
import type { Connection } from "../../lib/iroh/connection.ts";
import { Endpoint } from "../../lib/iroh/endpoint.ts";
import { parseSettings } from "../../lib/repository/settings.ts";
import { splice } from "../../lib/streams/splice.ts";
import { decodeTicket } from "../../lib/repository/ticket.ts";
import { MUX_ALPN, newSessionId, StreamType, writeStreamHeader } from "../../lib/protocol/mux.ts";
import { CloseCode } from "../../lib/protocol/close_codes.ts";
import { DUMBPIPE_ALPN, sendHandshake } from "../../lib/protocol/dumbpipe.ts";
import { Session } from "../../lib/protocol/session.ts";

const DIAL_TIMEOUT_MS = 20_000;

/** Opens a session on a connection. @returns The stream of its bytes. */
async function sessionOn(connection: Connection): Promise<Duplex> {
  const stream = await connection.open();
  if (connection.alpn === MUX_ALPN) {
    await writeStreamHeader(stream, { type: StreamType.SESSION, session: 0, id: newSessionId() });
    return new Session(stream, connection.closedError);
  }
  await sendHandshake(stream);
  return stream;
}

async function exchange(address: string, relay: string, alpn: string): Promise<void> {
  const { publicKey, direct } = decodeTicket(address);
  const settings = parseSettings(`p2p-iroh.relay\n${relay}\0`);
  await using endpoint = await Endpoint.bind({ relay: settings.relay, lookup: false });
  const peer = { publicKey, direct, relay: relay === "none" ? undefined : relay };
  const connection = await endpoint.connect(peer, alpn, AbortSignal.timeout(DIAL_TIMEOUT_MS));
  const stream = await sessionOn(connection);
  let received = 0;
  const { aToB, bToA } = await splice({
    readable: new Blob([new Uint8Array(1000)]).stream(),
    writable: new WritableStream({ write: (chunk) => void (received += chunk.length) }),
  }, stream);
  assert.deepEqual([aToB, bToA], [{}, {}]);
  assert(received > 1000);
  await connection.closeAndSend(CloseCode.DONE, "");
}

if (import.meta.main) {
  const [address, relay, count, protocol] = Deno.args;
  const alpn = protocol === "mux" ? MUX_ALPN : DUMBPIPE_ALPN;
  for (let i = 1; i <= Number(count); i++) {
    await exchange(address!, relay!, alpn);
    if (i % 100 > 0) continue;
    console.log(`${i} done`);
    await Deno.stdin.read(new Uint8Array(1));
  }
}
