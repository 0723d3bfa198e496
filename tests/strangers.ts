/** Peers that a test makes in its own process, and one that git-annex admits. */

import type { Connection } from "../lib/iroh/connection.ts";
import { Endpoint } from "../lib/iroh/endpoint.ts";
import { DUMBPIPE_ALPN } from "../lib/protocol/dumbpipe.ts";
import { decodeTicket } from "../lib/repository/ticket.ts";
import type { Duplex } from "../lib/streams/duplex.ts";
import type { Pair } from "./pair.ts";
import type { TestEnv } from "./testenv.ts";

const text = new TextEncoder();

/** Dials a listener from the test itself, with a new key. */
export async function dial(env: TestEnv, pair: Pair, alpn = DUMBPIPE_ALPN): Promise<Connection> {
  const endpoint = await Endpoint.bind({ relay: { kind: "none" }, lookup: false });
  env.cleanup(() => endpoint[Symbol.asyncDispose]());
  const { publicKey, direct } = decodeTicket(pair.dialed);
  return await endpoint.connect({ publicKey, direct }, alpn, env.signal);
}

export async function send(stream: Duplex, data: string): Promise<void> {
  const writer = stream.writable.getWriter();
  await writer.write(text.encode(data));
  writer.releaseLock();
}

/** Starts a session that stays open; `works` checks that bytes still pass in both directions. */
export async function friend(pair: Pair): Promise<{ works(): Promise<void> }> {
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  let count = 0;
  return {
    async works() {
      const line = `still there ${++count}`;
      await dialer.write(`${line}\n`);
      await dialer.says(new RegExp(line));
    },
  };
}
