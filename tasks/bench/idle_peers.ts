/**
 * idle_peers.ts ADDRESS ALPN COUNT
 *
 * Makes COUNT connections, each from a new endpoint with a new key, and waits until git-annex has admitted
 * each. Then it prints `all are in` and stays idle. It fails if a connection ends.
 *
 * It is one process, since COUNT processes would take all of the machine's memory.
 */

import type { Duplex } from "../../lib/streams/duplex.ts";
import type { Connection } from "../../lib/iroh/connection.ts";
import { Endpoint } from "../../lib/iroh/endpoint.ts";
import { decodeTicket } from "../../lib/repository/ticket.ts";
import { newSessionId, StreamType, writeStreamHeader } from "../../lib/protocol/mux.ts";
import { DUMBPIPE_ALPN, sendHandshake } from "../../lib/protocol/dumbpipe.ts";

const DIAL_TIMEOUT_MS = 20_000;

/** Connects. @returns The connection and its stream, which the caller must keep from garbage collection. */
async function connect(address: string, alpn: string): Promise<[Connection, Duplex]> {
  const { publicKey, direct } = decodeTicket(address);
  const endpoint = await Endpoint.bind({ relay: { kind: "none" }, lookup: false });
  const signal = AbortSignal.timeout(DIAL_TIMEOUT_MS);
  const connection = await endpoint.connect({ publicKey, direct }, alpn, signal);
  const stream = await connection.open();
  await (alpn === DUMBPIPE_ALPN
    ? sendHandshake(stream)
    : writeStreamHeader(stream, { type: StreamType.SESSION, session: 0, id: newSessionId() }));
  await stream.readable.getReader().read(); // AUTH-SUCCESS
  return [connection, stream];
}

if (import.meta.main) {
  const [address, alpn, count] = Deno.args;
  const peers: [Connection, Duplex][] = [];
  while (peers.length < Number(count)) peers.push(await connect(address!, alpn!));
  console.log("all are in");
  console.error(await Promise.race(peers.map(([{ closed }]) => closed)));
  Deno.exit(1);
}
