/**
 * many_dials.ts ADDRESS RELAY COUNT: connects so often, one after another, each time with a key of
 * its own, says so after each hundred, and waits for a line on stdin before it goes on.
 *
 * One process, so that what a test measures is the listener and not the start of programs.
 */

import assert from "node:assert/strict";
import { Endpoint } from "../lib/iroh.ts";
import { parseSettings } from "../lib/settings.ts";
import { splice } from "../lib/splice.ts";
import { decodeTicket } from "../lib/ticket.ts";
import { CloseCode, PLAIN_ALPN, sendHello } from "../lib/wire/plain.ts";

const DIAL_LIMIT_MS = 20_000;

async function exchange(address: string, relay: string): Promise<void> {
  const { publicKey, direct } = decodeTicket(address);
  const settings = parseSettings(`p2p-iroh.relay\n${relay}\0`);
  await using endpoint = await Endpoint.bind({ relay: settings.relay, lookup: false });
  const peer = { publicKey, direct, relay: relay === "none" ? undefined : relay };
  const connection = await endpoint.connect(peer, PLAIN_ALPN, AbortSignal.timeout(DIAL_LIMIT_MS));
  const stream = await connection.open();
  await sendHello(stream);
  let received = 0;
  const { forth, back } = await splice({
    readable: new Blob([new Uint8Array(1000)]).stream(),
    writable: new WritableStream({ write: (chunk) => void (received += chunk.length) }),
  }, stream);
  assert.deepEqual([forth, back], [{}, {}]);
  assert(received > 1000);
  await connection.closeAndSend(CloseCode.DONE, "");
}

if (import.meta.main) {
  const [address, relay, count] = Deno.args;
  for (let i = 1; i <= Number(count); i++) {
    await exchange(address!, relay!);
    if (i % 100 > 0) continue;
    console.log(`${i} done`);
    await Deno.stdin.read(new Uint8Array(1));
  }
}
