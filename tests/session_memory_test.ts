/** A kept connection holds on to nothing of the sessions that have ended on it. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { openViaListener } from "../lib/connect/via_listener.ts";
import { locateControlSocket } from "../lib/control/locator.ts";
import type { Connection } from "../lib/iroh/connection.ts";
import type { Endpoint, Incoming } from "../lib/iroh/endpoint.ts";
import { ConnectionPool } from "../lib/listener/connection_pool.ts";
import { ControlServer } from "../lib/listener/control_server.ts";
import { Listener } from "../lib/listener/listener.ts";
import { Presence } from "../lib/listener/presence.ts";
import type { InvitationBook } from "../lib/pairing/invitation_book.ts";
import { TrafficMeter } from "../lib/listener/traffic.ts";
import { listenerFolder } from "../lib/repository/listener_folder.ts";
import { parseSettings } from "../lib/repository/settings.ts";
import { encodeTicket } from "../lib/repository/ticket.ts";
import { eventLoopTurns } from "./event_loop.ts";
import { AUTH_SUCCESS, echo, FakeAnnex, makeConnection } from "./pair.ts";
import { scenario, type TestEnv } from "./testenv.ts";

const SETTINGS = parseSettings("");
/** Sessions at once. */
const JOBS = 8;
/**
 * Rounds, and sessions each way in one of them. A leak grows in each round, but the code that is compiled meanwhile
 * only in some.
 */
const ROUNDS = 3, SESSIONS = 250;
/** Half a KiB for each session. Without leaks they take a tenth; the buffers of one have 30 to 100 KiB. */
const MAX_GROWTH_KIB = SESSIONS;

/** A listener in this process, with its control socket, whose only connection is given. */
class Side implements AsyncDisposable {
  readonly address: string;
  readonly #repository: { gitDir: string };
  #resources = new AsyncDisposableStack();

  private constructor(connection: Connection, gitDir: string) {
    this.#repository = { gitDir };
    const { publicKey } = connection.endpoint as Endpoint;
    this.address = encodeTicket({ publicKey, relays: [] });
  }

  static async make(env: TestEnv, connection: Connection, name: string, isDialed: boolean) {
    const gitDir = join(env.dir, name);
    await Deno.mkdir(listenerFolder({ gitDir }), { recursive: true });
    const side = new Side(connection, gitDir), meter = side.#resources.use(new TrafficMeter());
    const stop = new AbortController();
    const annex = new FakeAnnex(env, join(gitDir, "socket"), echo);
    const presence = new Presence({ lastSeen: { of: () => undefined, note: () => {} } });
    const pool: ConnectionPool = new ConnectionPool({
      endpoint: connection.endpoint as Endpoint,
      settings: SETTINGS,
      presence,
      serve: (connection) => listener.serveDialed(connection),
      signal: stop.signal,
      dial: () => assert.fail("the connection is kept"),
    });
    const listener = new Listener({
      endpoint: { incoming: () => incomingOf(isDialed ? [] : [connection]) },
      socketPath: annex.path,
      maxConnections: 20,
      bind: undefined,
      report: () => {},
      socketRefused: () => assert.fail("git-annex is there"),
      connected: (mux) => pool.add(mux),
      disconnected: (mux, outcome) => pool.remove(mux, outcome),
      meter,
    });
    const running = isDialed ? listener.serveDialed(connection) : listener.run();
    running.catch((error) => env.fail(error));
    side.#resources.defer(() => listener.drain(1));
    side.#resources.defer(() => stop.abort(new Error("the test is over")));
    side.#resources.use(
      await ControlServer.open({
        invitations: {} as InvitationBook,
        repository: side.#repository,
        settings: SETTINGS,
        pool,
        presence,
        meter,
        status: () => ({}),
        report: () => {},
        signal: stop.signal,
      }),
    );
    await env.until("the connection to be kept", () => [...pool.keys()].length > 0);
    return side;
  }

  /** Carries a word to the peer and back, as a process of git-annex does. */
  async exchange(peer: Side, signal: AbortSignal): Promise<void> {
    const locator = locateControlSocket(this.#repository)!;
    using outbound = await openViaListener(locator, {
      address: peer.address,
      config: undefined,
      onLane() {},
      isCallerThere: () => true,
      onSlow() {},
      onAccepted() {},
      signal,
    });
    const { readable, writable } = outbound!.stream;
    const writer = writable.getWriter();
    await writer.write(new TextEncoder().encode("word"));
    writer.close().catch(() => {}); // the read fails, too
    const said = await new Response(readable).text();
    assert.equal(said, AUTH_SUCCESS + "word");
    await outbound!.finish();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

async function* incomingOf(connections: readonly Connection[]): AsyncGenerator<Incoming> {
  for (const connection of connections) {
    yield {
      source: () => Promise.resolve({ name: "192.0.2.1", dialer: "192.0.2.1", isProven: true }),
      accept: () => Promise.resolve(connection),
    } as unknown as Incoming;
  }
}

/** Returns the memory in use after garbage collection, in KiB. */
async function memoryInUse(): Promise<number> {
  const { gc } = globalThis as { gc?: () => void };
  for (let i = 0; i < 4; i++) {
    await eventLoopTurns(4);
    gc!();
  }
  const { heapUsed, external } = Deno.memoryUsage();
  return Math.round((heapUsed + external) / 1024);
}

scenario("a kept connection holds on to nothing of the sessions that have ended on it", {
  takesTurns: true,
}, async (env) => {
  await using connection = await makeConnection(env);
  await using a = await Side.make(env, connection.dialer, "a", true);
  await using b = await Side.make(env, connection.acceptor, "b", false);
  const exchange = async (count: number) => {
    let left = count;
    await Promise.all(Array.from({ length: JOBS }, async () => {
      while (left-- > 0) {
        await a.exchange(b, env.signal);
        await b.exchange(a, env.signal);
      }
    }));
  };
  const grown: number[] = [];
  for (let round = 0, before = Infinity; round <= ROUNDS; round++) {
    await exchange(SESSIONS);
    const now = await memoryInUse();
    if (round > 0) grown.push(now - before);
    before = now;
  }
  assert(Math.min(...grown) < MAX_GROWTH_KIB, `${grown} KiB`);
});
