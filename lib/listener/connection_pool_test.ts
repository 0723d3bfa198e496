import assert from "node:assert/strict";
import type { DialOptions } from "../dial/dialer.ts";
import {
  AWAY_LIMITS,
  DIAL_LIMITS,
  type DialLimits,
  PATIENT_LIMITS,
  REPEATED_LIMITS,
} from "../dial/dial_limits.ts";
import { Away, Unreachable } from "../dial/unreachable.ts";
import type { Connection } from "../iroh/connection.ts";
import type { Endpoint } from "../iroh/endpoint.ts";
import type { MuxConnection } from "../protocol/peer_connection.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import { MUX_ALPN } from "../protocol/mux.ts";
import { parseSettings } from "../repository/settings.ts";
import type { Ticket } from "../repository/ticket.ts";
import { Presence } from "./presence.ts";
import { ConnectionPool, type ConnectionPoolOptions } from "./connection_pool.ts";
import { pipe } from "../../tests/pipe.ts";

const SESSION = { id: "00".repeat(16), isResumed: false };
const never = new AbortController().signal;

function ticketOf(byte: number): Ticket {
  return { publicKey: new Uint8Array(32).fill(byte), relays: [], direct: [] };
}

/** A connection on the mux protocol on which sessions can be opened, as far as a pool sees. */
function fakeMux(ticket: Ticket): MuxConnection {
  const connection = {
    publicKey: ticket.publicKey,
    alpn: MUX_ALPN,
    packetsReceived: 0,
    closedError: new Promise(() => {}),
    close: () => {},
  };
  const mux = {
    connection,
    hasRoom: true,
    isClosed: false,
    isDialed: true,
    isShared: false,
    idleSince: 0,
    open: () => {
      connection.packetsReceived++;
      const stream = { readable: new ReadableStream(), writable: new WritableStream() };
      return Promise.resolve({ stream, [Symbol.dispose]: () => {} });
    },
  };
  return mux as unknown as MuxConnection;
}

function makePresence(clock?: () => number): Presence {
  return new Presence({
    lastSeen: { of: () => undefined, note: () => {} },
    ...clock && { clock },
  });
}

/** A pool whose dials do what `dial` says. */
function makePool(
  dial: (options: DialOptions, ticket: Ticket) => Promise<MuxConnection>,
  options: Partial<ConnectionPoolOptions> = {},
): ConnectionPool {
  const muxes = new Map<Connection, MuxConnection>();
  const pool = new ConnectionPool({
    endpoint: { publicKey: new Uint8Array(32) } as unknown as Endpoint,
    settings: parseSettings(""),
    presence: makePresence(),
    signal: never,
    serve: (connection) => {
      pool.add(muxes.get(connection)!);
      return Promise.resolve();
    },
    dial: async (ticket, _settings, _alpns, _signal, options = {}) => {
      const mux = await dial(options, ticket);
      muxes.set(mux.connection, mux);
      return { connection: mux.connection, route: { kind: "address", direct: [] } };
    },
    ...options,
  });
  return pool;
}

/** Opens a session; returns the error if that fails. */
function failure(pool: ConnectionPool, ticket: Ticket): Promise<unknown> {
  return pool.open(ticket, SESSION, never).then(() => undefined, (error) => error);
}

Deno.test("ConnectionPool dials a peer that is away for a short time, and at most every 10 s", async () => {
  const tried: (DialLimits | undefined)[] = [];
  let isReachable = false, now = 0;
  const presence = makePresence(() => now);
  const pool = makePool(({ limits }, ticket) => {
    tried.push(limits);
    return isReachable
      ? Promise.resolve(fakeMux(ticket))
      : Promise.reject(new Unreachable("cannot reach the peer; tried its address"));
  }, { presence });
  const peer = ticketOf(1), other = ticketOf(2), key = peer.publicKey.toHex();
  for (const ticket of [peer, peer, other, peer]) {
    const error = await failure(pool, ticket);
    assert(error instanceof Away);
    assert.equal(error.message, "cannot reach the peer; tried its address");
  }
  assert.deepEqual(tried, [DIAL_LIMITS, DIAL_LIMITS]);
  assert(await failure(pool, { ...peer, direct: ["10.0.0.1:1"] }) instanceof Away);
  assert.deepEqual(tried.splice(0).at(-1), AWAY_LIMITS); // by another address
  now += 10_000;
  for (const _ of [1, 2]) assert(await failure(pool, peer) instanceof Away);
  assert.deepEqual(tried.splice(0), [AWAY_LIMITS]);

  isReachable = true;
  now += 10_000;
  (await pool.open(peer, SESSION, never))[Symbol.dispose]();
  assert.deepEqual(tried.splice(0), [AWAY_LIMITS]);
  assert.equal(presence.of(key), "here");
  for (const mux of pool.of(key)) pool.remove(mux, "broken off");
  isReachable = false;
  assert(await failure(pool, peer) instanceof Away);
  assert.deepEqual(tried, [DIAL_LIMITS]);
});

Deno.test("ConnectionPool: a dial that tells nothing of the peer makes it not away", async () => {
  const presence = makePresence(), key = "01".repeat(32);
  const pool = makePool(() => {
    return Promise.reject(new Unreachable("cannot reach the peer", { verdict: "unclear" }));
  }, { presence });
  for (const limits of [DIAL_LIMITS, REPEATED_LIMITS]) {
    assert.deepEqual(presence.limits(key), limits);
    assert(await failure(pool, ticketOf(1)) instanceof Away);
  }
  assert.equal(presence.of(key), "unknown");
});

Deno.test("ConnectionPool resumes a session patiently, although the peer is believed away", async () => {
  const tried: (DialLimits | undefined)[] = [], resumed = Promise.withResolvers<MuxConnection>();
  const pool = makePool(({ limits }) => {
    tried.push(limits);
    return limits === PATIENT_LIMITS
      ? resumed.promise
      : Promise.reject(new Unreachable("cannot reach the peer"));
  });
  assert(await failure(pool, ticketOf(1)) instanceof Away);
  const resuming = pool.open(ticketOf(1), { ...SESSION, isResumed: true }, never);
  while (tried.length === 1) await new Promise((next) => setTimeout(next, 0));
  assert(await failure(pool, ticketOf(1)) instanceof Away, "another session does not wait as long");
  resumed.resolve(fakeMux(ticketOf(1)));
  (await resuming)[Symbol.dispose]();
  assert.deepEqual(tried, [DIAL_LIMITS, PATIENT_LIMITS]);
});

Deno.test("ConnectionPool: a probe of a peer that is away makes no dial wait", async () => {
  const tried: (DialLimits | undefined)[] = [], probed = Promise.withResolvers<MuxConnection>();
  let now = 0;
  const pool = makePool(({ limits }) => {
    tried.push(limits);
    return tried.length === 2
      ? probed.promise
      : Promise.reject(new Unreachable("cannot reach the peer"));
  }, { presence: makePresence(() => now) });
  assert(await failure(pool, ticketOf(1)) instanceof Away);
  const probing = pool.probe(ticketOf(1)).catch((error) => error);
  now = 10_000;
  assert(await failure(pool, ticketOf(1)) instanceof Away);
  assert.deepEqual(tried, [DIAL_LIMITS, DIAL_LIMITS, AWAY_LIMITS]);
  probed.reject(new Unreachable("cannot reach the peer"));
  assert(await probing instanceof Away);
});

Deno.test("ConnectionPool uses a connection that the peer has dialed while a dial to it fails", async () => {
  const presence = makePresence(), dialed = fakeMux(ticketOf(1));
  const pool: ConnectionPool = makePool(() => {
    pool.add(dialed);
    return Promise.reject(new Unreachable("cannot reach the peer"));
  }, { presence });
  const pooled = await pool.open(ticketOf(1), SESSION, never);
  assert.equal((await pooled.opened).mux, dialed);
  pooled[Symbol.dispose]();
});

Deno.test("ConnectionPool: a probe closes no connection that the peer has dialed", async () => {
  const dialed = Object.assign(fakeMux(ticketOf(1)), {
    isDialed: false,
    closeGracefully: () => assert.fail(),
  });
  const pool: ConnectionPool = makePool(() => {
    pool.add(dialed);
    return Promise.reject(new Unreachable("cannot reach the peer"));
  });
  await pool.probe(ticketOf(1));
});

Deno.test("ConnectionPool finishes a dial although the process that wanted it has gone", async () => {
  const dialing = Promise.withResolvers<MuxConnection>(), begun = Promise.withResolvers<void>();
  const pool = makePool(() => {
    begun.resolve();
    return dialing.promise;
  });
  const gone = new AbortController();
  const opening = pool.open(ticketOf(1), SESSION, gone.signal);
  await begun.promise;
  gone.abort(new Error("the process is gone"));
  await assert.rejects(opening, /the process is gone/);
  assert.deepEqual([...pool.keys()], []);
  dialing.resolve(fakeMux(ticketOf(1)));
  while ([...pool.keys()].length === 0) await new Promise((next) => setTimeout(next, 0));
  (await pool.open(ticketOf(1), SESSION, never))[Symbol.dispose]();
});

/** Has the process of a session go away while its connection is dialed again. */
async function testGivingUp(giveUpTimeoutMs: number, doesAnswer: boolean): Promise<void> {
  const dialing = Promise.withResolvers<MuxConnection>(), begun = Promise.withResolvers<void>();
  const pool = makePool(() => {
    begun.resolve();
    return dialing.promise;
  }, { giveUpTimeoutMs });
  const gone = new AbortController(),
    ticket = ticketOf(1),
    request = { ...SESSION, isResumed: true };
  const opening = pool.open(ticket, request, gone.signal);
  await begun.promise;
  gone.abort(new Error("the process is gone"));
  await assert.rejects(opening, /the process is gone/);
  const [stream, peers] = pipe(), isOver = Promise.withResolvers<void>();
  const mux = fakeMux(ticket);
  mux.open = (_signal, opened) => {
    assert.deepEqual(opened, request);
    const session = { stream, openLane: () => assert.fail(), [Symbol.dispose]: isOver.resolve };
    return Promise.resolve(session);
  };
  dialing.resolve(mux);
  const reading = peers.readable.getReader().read().then(() => assert.fail(), (error) => error);
  if (doesAnswer) {
    const first = await Promise.race([reading, new Promise((next) => setTimeout(next, 10))]);
    assert.equal(first, undefined, "the peer may not have read which session it is");
    await peers.writable.getWriter().write(Uint8Array.of(1));
  }
  assert.equal((await reading).code, CloseCode.STOPPED);
  await isOver.promise;
}

Deno.test("ConnectionPool tells the peer that a session is not resumed, if its process has gone", async () => {
  await testGivingUp(60_000, true);
});

Deno.test("ConnectionPool tells that also a peer that says nothing, after a while", async () => {
  await testGivingUp(50, false);
});

Deno.test("ConnectionPool dials another connection if the kept one has no room", async () => {
  let dials = 0;
  const pool = makePool((_, ticket) => Promise.resolve((dials++, fakeMux(ticket))));
  using _first = await pool.open(ticketOf(1), SESSION, never);
  using _second = await pool.open(ticketOf(1), SESSION, never);
  assert.equal(dials, 1);
  const [mux] = pool.of("01".repeat(32));
  Object.assign(mux!, { hasRoom: false });
  using _third = await pool.open(ticketOf(1), SESSION, never);
  assert.equal(dials, 2);
  assert.equal(pool.of("01".repeat(32)).length, 2);
});

Deno.test("ConnectionPool does not dial this repository itself", async () => {
  const pool = makePool(() => assert.fail());
  const error = await failure(pool, ticketOf(0));
  assert.equal((error as Error).name, "SelfDial");
});
