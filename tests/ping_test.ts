/** `ping` tells whether a peer can be reached, and how. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Endpoint } from "../lib/iroh/endpoint.ts";
import { CloseCode } from "../lib/protocol/close_codes.ts";
import type { Connection } from "../lib/iroh/connection.ts";
import { answerPing, MUX_ALPN, ping, readStreamHeader } from "../lib/protocol/mux.ts";
import { newIdentity } from "../lib/repository/identity.ts";
import { decodeTicket, encodeTicket } from "../lib/repository/ticket.ts";
import { makeNetwork } from "./network.ts";
import {
  addressAt,
  dumbpipeListener,
  echo,
  FakeAnnex,
  makePair,
  ROUTES,
  toolsFor,
} from "./pair.ts";
import { scenario, type TestEnv } from "./testenv.ts";

for (const route of ROUTES) {
  const needs = toolsFor(route);

  scenario(`${route}: ping prints each reply, the route and the path, and asks git-annex nothing`, {
    needs,
  }, async (env) => {
    const pair = await makePair(env, route, echo);
    const setting = pair.relay ? { GIT_ANNEX_P2P_IROH_RELAY: pair.relay.url } : {};
    const run = await env.iroh(["ping", pair.dialed, "-n", "2"], {
      on: pair.network.b,
      env: setting,
    });
    assert.deepEqual([run.code, run.stderr], [0, ""]);
    const lines = run.stdout.split("\n");
    const found = route === "relay" ? "relay http\\S+" : "its address";
    const path = route === "relay" ? "relay http\\S+" : "direct \\S+";
    assert.match(
      lines[0]!,
      new RegExp(`^connected to [0-9a-f]{10} in [\\d.]+ ms, found by ${found}$`),
    );
    assert.match(lines[1]!, new RegExp(`^reply 1 in [\\d.]+ ms, ${path}$`));
    assert.match(lines[2]!, new RegExp(`^reply 2 in [\\d.]+ ms, ${path}$`));
    assert.match(
      lines[3]!,
      new RegExp(`^found by ${found}, path ${path}; 2 of 2 replies, 0 % lost$`),
    );
    assert.match(lines[4]!, /^round trip: least [\d.]+ ms, median [\d.]+ ms, most [\d.]+ ms$/);
    assert.equal(pair.fakeAnnex.total, 0);
    assert.doesNotMatch(await pair.log(), /turned away|failed/);
  });
}

scenario("ping finds a peer on the same host", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const run = await env.iroh(["ping", pair.address, "-n", "1"], { on: pair.network.a });
  assert.equal(run.code, 0);
  assert.match(
    run.stdout,
    /found by the same host, path direct (127\.0\.0\.1|\[::1\]):\d+; 1 of 1 replies/,
  );
});

scenario("ping reaches dumbpipe, and does not connect to the program behind it", {
  waits: true,
  needs: ["dumbpipe", "namespaces"],
}, async (env) => {
  const { a, b } = await makeNetwork(env, "lan");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  const { ticket } = await dumbpipeListener(env, a, fakeAnnex.path);
  const run = await env.iroh(["ping", ticket, "-n", "2"], { on: b });
  assert.deepEqual([run.code, run.stderr], [0, ""]);
  assert.match(run.stdout, /it speaks dumbpipe's protocol/);
  assert.match(run.stdout, /2 of 2 replies, 0 % lost/);
  assert.equal(fakeAnnex.total, 0);
});

/** Makes a peer that answers the first ping of a connection, and none after it. */
async function answerOnce(env: TestEnv, peer: Endpoint): Promise<Connection> {
  const { value: incoming } = await peer.incoming().next();
  const connection = await incoming!.accept(env.signal);
  const stream = await connection.accept(env.signal);
  await readStreamHeader(stream);
  await answerPing(stream);
  return connection;
}

scenario("ping exits 1 if no peer answers, and 0 if one did before", {
  waits: true,
  limitMs: 90_000,
}, async (env) => {
  const unknown = encodeTicket({ publicKey: newIdentity().publicKey, relays: [] });
  const none = await env.iroh(["ping", unknown]);
  assert.deepEqual([none.code, none.stdout], [1, ""]);
  assert.match(none.stderr, /^git-annex-p2p-iroh: cannot reach the peer, [^\n]*\n$/);

  const relay = { kind: "none" } as const, bind = "127.0.0.1:0";
  await using peer = await Endpoint.bind({ relay, lookup: false, bind, alpns: [MUX_ALPN] });
  const ticket = encodeTicket({ publicKey: peer.publicKey, relays: [] });
  const [{ code, stdout, stderr }, connection] = await Promise.all([
    env.iroh(["ping", addressAt(ticket, ...peer.boundSockets()), "-n", "3"]),
    answerOnce(env, peer),
  ]);
  connection.close(CloseCode.DONE, "");
  assert.equal(code, 0);
  for (const lost of [2, 3]) {
    assert.match(stderr, new RegExp(`no reply ${lost}, nothing came within 5 s`));
  }
  assert.match(stdout, /1 of 3 replies, 67 % lost/);
});

scenario("ping: 300 pings on one connection do not stall", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const { publicKey, direct } = decodeTicket(pair.dialed);
  await using endpoint = await Endpoint.bind({ relay: { kind: "none" }, lookup: false });
  const connection = await endpoint.connect({ publicKey, direct }, MUX_ALPN, env.signal);
  // QUIC permits a peer a hundred streams whose end is not confirmed.
  for (let i = 0; i < 300; i++) await env.within(connection.open().then(ping));
  connection.close(CloseCode.DONE, "");
});

scenario("ping ends when the peer stops, and prints its summary", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const ping = await env.start(["git-annex-p2p-iroh", "ping", pair.dialed, "-n", "1000"]);
  await ping.says(/reply 2/);
  pair.listener.kill("SIGTERM");
  const { code, stdout, stderr } = await ping.ended;
  assert.equal(code, 0);
  assert.match(stderr, /^git-annex-p2p-iroh: no reply \d+, stopped \(code 3\)\n$/);
  assert.match(stdout, /replies, \d+ % lost\nround trip/);
});

scenario("ping prints its summary when it is interrupted", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const ping = await env.start(["git-annex-p2p-iroh", "ping", pair.dialed, "-n", "1000"]);
  await ping.says(/reply 2/);
  ping.kill("SIGINT");
  const { code, stdout } = await ping.ended;
  assert.equal(code, 0);
  assert.match(stdout, /replies, 0 % lost\nround trip/);
});

scenario("ping exits 2 on an invalid command line", {}, async (env) => {
  const cases: [args: string[], says: RegExp][] = [
    [["ping"], /ping needs an address/],
    [["ping", "hello"], /"hello" is not an address/],
    [["ping", "endpointa", "-n", "0"], /-n 0 is not a count/],
    [["ping", "endpointa", "-n", "many"], /-n many is not a count/],
    [["address", "-n", "3"], /-n is for ping/],
  ];
  for (const [args, says] of cases) {
    const { code, stderr } = await env.iroh(args);
    assert.equal(code, 2, args.join(" "));
    assert.match(stderr, says);
  }
});
