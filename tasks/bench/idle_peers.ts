/**
 * idle_peers.ts ADDRESS ALPN COUNT: connects so often, each time with an endpoint and a key of its own,
 * waits to be let in, says `all are in`, and is idle. Fails if a connection ends.
 *
 * One process, since so many programs would take all of the machine.
 */

import type { Duplex } from "../../lib/streams/duplex.ts";
import { type Connection, Endpoint } from "../../lib/iroh/endpoint.ts";
import { decodeTicket } from "../../lib/repository/ticket.ts";
import { StreamType, writeStreamHeader } from "../../lib/protocol/mux.ts";
import { DUMBPIPE_ALPN, sendHandshake } from "../../lib/protocol/dumbpipe.ts";

const DIAL_LIMIT_MS = 20_000;

/** @returns The connection, and its stream, which must not be garbage. */
async function connect(address: string, alpn: string): Promise<[Connection, Duplex]> {
  const { publicKey, direct } = decodeTicket(address);
  const endpoint = await Endpoint.bind({ relay: { kind: "none" }, lookup: false });
  const signal = AbortSignal.timeout(DIAL_LIMIT_MS);
  const connection = await endpoint.connect({ publicKey, direct }, alpn, signal);
  const stream = await connection.open();
  await (alpn === DUMBPIPE_ALPN
    ? sendHandshake(stream)
    : writeStreamHeader(stream, StreamType.SESSION, 0));
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
