/** `status` reports the listener and its peers. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { type Friend, makeFriend, makeFriends } from "./friends.ts";
import { makeLoopback } from "./network.ts";
import { AUTH_SUCCESS, AUTH_SUCCESS_BYTES, makeRepository, randomBytes, writeAll } from "./pair.ts";
import { checked, statusOf } from "./status.ts";
import { scenario, type TestEnv } from "./testenv.ts";

async function addRemote(env: TestEnv, at: Friend, name: string, to: Friend): Promise<void> {
  const url = `p2p-annex::iroh:${to.address}`;
  await env.ok(["git", "remote", "add", name, url], { on: at.host, cwd: at.repository });
}

scenario("status lists connected peers, with paths, sessions and bytes", {
  limitMs: 90_000,
}, async (env) => {
  let wait = Promise.withResolvers<void>();
  const [a, b] = await makeFriends(env, async (connection) => {
    await writeAll(connection, AUTH_SUCCESS_BYTES);
    await connection.read(new Uint8Array(10));
    await writeAll(connection, randomBytes(3_000_000));
    await wait.promise;
  });
  await addRemote(env, b, "friend", a);
  const before = await statusOf(env, b);
  assert.equal(before.address, b.address);
  assert.equal(before.listener!.pid, b.listener.pid);
  assert(Date.now() - Date.parse(before.listener!.since!) < 60_000);
  assert(before.listener!.addresses.length > 0);
  assert.deepEqual(
    before.peers.map(({ remotes, state, lastSeen, routes }) => [remotes, state, lastSeen, routes]),
    [[["friend"], "unknown", null, []]],
  );

  const process = await b.connect(await a.at(), { stdin: "open" });
  await process.write("x");
  let hasMoved = false; // a rate tells of the last five seconds
  await env.until("its bytes to be counted", async () => {
    const [peer] = (await statusOf(env, b)).peers;
    hasMoved ||= peer!.receivedPerSecond > 0;
    return peer!.bytesReceived === AUTH_SUCCESS.length + 3_000_000 && peer!.lanes.length === 1;
  });
  assert(hasMoved);
  await env.until(
    "the lane to be there at the other end",
    async () => (await statusOf(env, a)).peers[0]?.lanes.length === 1,
  );
  const [peer] = (await statusOf(env, b)).peers;
  assert.deepEqual([peer!.connected, peer!.state], [true, "here"]);
  assert.match(peer!.path!, /^direct (127\.0\.0\.1|\[::1\]):/);
  assert(peer!.roundTripMs! < 1000);
  // TLS has a head start, which may be too short if the machine is busy.
  const kind = /^(TLS|QUIC) (127\.0\.0\.1|\[::1\]):/.exec(peer!.lanes[0]!)?.[1];
  assert(kind, peer!.lanes[0]);
  assert.deepEqual(peer!.sessions, { incoming: 0, outgoing: 1 });
  assert.equal(peer!.bytesSent, 1);
  // The report at the other end.
  const [other] = (await statusOf(env, a)).peers;
  assert(other!.key.startsWith(b.key));
  assert.deepEqual([other!.remotes, other!.sessions], [[], { incoming: 1, outgoing: 0 }]);
  assert.equal(other!.bytesSent, AUTH_SUCCESS.length + 3_000_000);
  assert(other!.lanes[0]!.startsWith(`${kind} `), other!.lanes[0]);

  const text = await env.ok(["git-annex-p2p-iroh", "status"], { on: b.host, cwd: b.repository });
  assert.match(text, new RegExp(`^address   ${b.address}$`, "m"));
  assert.match(text, /^listener {2}process \d+, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, no relay$/m);
  assert.match(
    text,
    new RegExp(`^peer {6}friend \\(\\w{10}\\): here, direct .*, [\\d.]+ ms, lane ${kind} `, "m"),
  );
  assert.match(text, /^ {10}sent 1 B.*, received 3\.0 MB.*, 1 from here$/m);

  wait.resolve();
  wait = Promise.withResolvers();
  await process.end();
  assert.equal((await process.ended).code, 0);
  await env.until(
    "its session to be over",
    async () => (await statusOf(env, b)).peers[0]!.sessions.outgoing === 0,
  );
  const [after] = (await statusOf(env, b)).peers;
  assert.deepEqual([after!.connected, after!.lanes], [true, []]);
  assert.equal(after!.bytesReceived, AUTH_SUCCESS.length + 3_000_000);
});

scenario(
  "status works without a listener, and remembers peers that were connected",
  {},
  async (env) => {
    const [a, b] = await makeFriends(env);
    await addRemote(env, b, "friend", a);
    assert.equal((await (await b.connect(await a.at(), { stdin: "x" })).ended).code, 0);
    b.listener.kill("SIGTERM");
    assert.equal((await b.listener.ended).code, 0);
    const { address, listener, up, peers } = await statusOf(env, b);
    assert.deepEqual([address, listener, up, peers.length], [b.address, null, null, 1]);
    assert.equal(peers[0]!.connected, false);
    assert(Date.now() - Date.parse(peers[0]!.lastSeen!) < 60_000);
    const text = await env.ok(["git-annex-p2p-iroh", "status"], { on: b.host, cwd: b.repository });
    assert.match(text, /^listener {2}none; run git-annex-p2p-iroh up/m);
    assert.match(text, /friend \(\w{10}\): not connected, last seen \d{4}/);
  },
);

scenario("status says since when a remote is away, and how it would be reached", {
  waits: true,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at(), [direct] = decodeTicket(address).direct;
  const on = { on: b.host, cwd: b.repository };
  await env.ok(["git", "remote", "add", "friend", `p2p-annex::iroh:${address}`], on);
  const begin = Date.now();
  a.listener.kill("SIGTERM");
  await a.listener.ended; // b may have tried it meanwhile
  assert.equal((await (await b.connect(address, { stdin: "x" })).ended).code, 1);
  const [away] = (await statusOf(env, b)).peers;
  assert.deepEqual([away!.state, away!.connected, away!.routes], ["away", false, [direct]]);
  assert(Date.parse(away!.awaySince!) >= begin);
  const text = await env.ok(["git-annex-p2p-iroh", "status"], on);
  assert.match(text, /^peer {6}friend \(\w{10}\): away since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/m);
  assert.match(text, new RegExp(`^ {10}to be reached by ${direct}$`, "m"));

  a.listener = await a.listen({ env: { GIT_ANNEX_P2P_IROH_BIND: direct! } });
  await env.until("it to be reached", async () => { // for 10 s, dials fail at once
    return (await (await b.connect(address, { stdin: "x" })).ended).code === 0;
  });
  const [here] = (await statusOf(env, b)).peers;
  assert.deepEqual([here!.state, here!.awaySince], ["here", null]);
});

scenario("status says that a repository has no address", {}, async (env) => {
  const { a } = await makeLoopback(env);
  const cwd = await makeRepository(env, a, "repository");
  const text = await env.ok(["git-annex-p2p-iroh", "status"], { on: a, cwd });
  assert.match(text, /^address {3}none; run git-annex-p2p-iroh up$/m);
  const json = await env.ok(["git-annex-p2p-iroh", "status", "--json"], { on: a, cwd });
  assert.deepEqual(checked(json).peers, []);
  const { code } = await env.iroh(["status"], { on: a, cwd: a.dir });
  assert.equal(code, 1);
});

scenario("status reports a listener that does not answer", { waits: true }, async (env) => {
  const { a } = await makeLoopback(env);
  const friend = await makeFriend(env, a);
  friend.listener.kill("SIGSTOP");
  const { listener } = await statusOf(env, friend);
  const silent = { version: null, since: null, relay: null, addresses: [] };
  assert.deepEqual(listener, { elsewhere: null, pid: friend.listener.pid, ...silent });
  friend.listener.kill("SIGCONT");
});

scenario(
  "status --watch prints a report again and again until it is told to stop",
  {},
  async (env) => {
    const { a } = await makeLoopback(env);
    const friend = await makeFriend(env, a);
    const watch = await env.start(["git-annex-p2p-iroh", "status", "--json", "--watch"], {
      on: a,
      cwd: friend.repository,
    });
    await env.until("two lines", () => watch.stdout.split("\n").length > 2);
    friend.listener.kill("SIGTERM");
    await env.until("the listener's end to be told", () => /"listener":null/.test(watch.stdout));
    watch.kill("SIGINT");
    assert.equal((await watch.ended).code, 0);
    for (const line of watch.stdout.trimEnd().split("\n")) checked(line);
  },
);

scenario("status removes control characters from the names of remotes", {}, async (env) => {
  const [a, b] = await makeFriends(env);
  const config = join(b.repository, ".git/config");
  const evil = `[remote "e\x1b[31mvil"]\n\turl = p2p-annex::iroh:${a.address}\n`;
  await Deno.writeTextFile(config, await Deno.readTextFile(config) + evil);
  const text = await env.ok(["git-annex-p2p-iroh", "status"], { on: b.host, cwd: b.repository });
  assert.match(text, /vil \(/);
  assert(!text.includes("\x1b"));
});
