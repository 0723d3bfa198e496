/** However many strangers try invitations that are none, the joiner that is invited gets in. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { addInvitation, listInvitations } from "../lib/control/invitations.ts";
import { locateControlSocket } from "../lib/control/locator.ts";
import { dialPeer } from "../lib/dial/dialer.ts";
import type { Connection } from "../lib/iroh/connection.ts";
import { Endpoint } from "../lib/iroh/endpoint.ts";
import { Exchange } from "../lib/pairing/exchange.ts";
import { hashOfSecret, newInvitationSecret } from "../lib/pairing/invitation.ts";
import { readAnswer, sendRequest } from "../lib/pairing/messages.ts";
import { MUX_ALPN, readEnd, StreamType } from "../lib/protocol/mux.ts";
import { newIdentity } from "../lib/repository/identity.ts";
import { parseSettings } from "../lib/repository/settings.ts";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { StreamError } from "../lib/streams/duplex.ts";
import { echo, makePair, type Pair } from "./pair.ts";
import { scenario, type TestEnv } from "./testenv.ts";

/** The codes that strangers try at least, and how many try at once. */
const CODES = 1000, STRANGERS = 24;
const TRIES = 4;
/** Where they are. A listener does not answer many dials of one source, and other systems have one loopback address. */
const SOURCES = Deno.build.os === "linux"
  ? Array.from({ length: 8 }, (_, i) => `127.0.0.${i + 2}`)
  : ["127.0.0.1"];
/** Time in which the joiner must get in. */
const JOIN_LIMIT_MS = 5_000;

/** Tries a code that is none. @returns Whether it was refused; false if the listener did not let it try. */
async function tryCode(connection: Connection): Promise<boolean> {
  try {
    const stream = await connection.open();
    await sendRequest(stream, { kind: "join", secret: newInvitationSecret(), name: "eve" });
    assert.deepEqual(await readAnswer(stream), { kind: "refused" });
    await Promise.all([stream.writable.close(), readEnd(stream)]);
    return true;
  } catch (error) {
    assert(error instanceof StreamError, `${error}`);
    return false;
  }
}

/** What strangers have tried, and whether the joiners are still to come. */
interface Attack {
  refused: number;
  isNeeded: boolean;
}

/** Tries codes on one connection after another until enough have been refused, or the test has ended. */
async function attack(
  dial: () => Promise<Connection>,
  count: Attack,
  ended: AbortSignal,
): Promise<void> {
  while (!ended.aborted && (count.isNeeded || count.refused < CODES)) {
    const connection = await dial().catch(() => undefined); // refused before the handshake
    for (let i = 0; connection && i < TRIES; i++) if (await tryCode(connection)) count.refused++;
    connection?.close(0n, "");
  }
}

/** A joiner with the secret of an invitation. */
function joiner(env: TestEnv, pair: Pair, secret: Uint8Array): Exchange {
  const { publicKey, direct } = decodeTicket(pair.dialed);
  const exchange = new Exchange({ publicKey, secret, relay: undefined }, {
    secretKey: newIdentity().secretKey,
    settings: parseSettings("p2p-iroh.relay\nnone\0p2p-iroh.lan\nfalse\0"),
    dial: (ticket, ...others) => dialPeer({ ...ticket, direct }, ...others),
  });
  env.cleanup(() => exchange[Symbol.asyncDispose]());
  return exchange;
}

scenario(
  `beside ${CODES} wrong codes and silent strangers, one of two joiners gets in within 5 s`,
  { limitMs: 90_000 },
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    const { publicKey, direct } = decodeTicket(pair.dialed);
    const socket = locateControlSocket({ gitDir: join(pair.repository, ".git") })!;
    const secret = newInvitationSecret(), hash = hashOfSecret(secret);
    const invitation = { hash, name: undefined, validMs: 600_000, isDetached: false };
    using held = await addInvitation(socket, invitation, env.signal);
    const endpoints = await Promise.all(SOURCES.map(async (ip) => {
      const bind = `${ip}:0`;
      const endpoint = await Endpoint.bind({ relay: { kind: "none" }, lookup: false, bind });
      env.cleanup(() => endpoint[Symbol.asyncDispose]());
      return endpoint;
    }));
    let dials = 0;
    const dial = () => {
      const endpoint = endpoints[dials++ % endpoints.length]!;
      return endpoint.connect({ publicKey, direct }, MUX_ALPN, env.signal);
    };
    const silent = async () => {
      const stream = await (await dial()).open();
      await stream.writable.getWriter().write(Uint8Array.of(StreamType.PAIR));
    };
    await Promise.all(Array.from({ length: 16 }, silent));
    const count: Attack = { refused: 0, isNeeded: true };
    const attacking = Promise.all(
      Array.from({ length: STRANGERS }, () => attack(dial, count, env.signal)),
    );
    await env.until("the attack to be under way", () => count.refused > CODES / 4);

    const begin = performance.now();
    const outcomes = await Promise.allSettled(
      [joiner(env, pair, secret), joiner(env, pair, secret)].map((exchange) =>
        exchange.join("ann", env.signal)
      ),
    );
    const took = performance.now() - begin;
    count.isNeeded = false;
    // The right secret is known by its answer: there is no git-annex here that could do a step.
    assert.deepEqual(
      outcomes.map((outcome) => outcome.status === "rejected" && outcome.reason.name).toSorted(),
      ["InvitationRefused", "InviterFailed"],
    );
    assert(took <= JOIN_LIMIT_MS, `${took} ms`);
    const { value: event } = await held.events[Symbol.asyncIterator]().next();
    assert.deepEqual(event, { kind: "joining", name: "ann" });
    await attacking;
    const [listed] = await listInvitations(socket, env.signal);
    assert.equal(listed?.state, "joining");
  },
);
