/** Connections that a listener keeps, and the processes of its repository that go through it. */

import { newSessionId } from "../lib/protocol/mux.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { Channel, MessageKind } from "../lib/control/channel.ts";
import { requestSession, requestStatus } from "../lib/control/client.ts";
import { type ControlLocator, locateControlSocket } from "../lib/control/locator.ts";
import type { ListenerStatus } from "../lib/listener/snapshot.ts";
import {
  IdleTimeout,
  type InboundSession,
  MuxConnection,
} from "../lib/protocol/peer_connection.ts";
import { parseSettings } from "../lib/repository/settings.ts";
import { splitSocketAddress } from "../lib/platform/socket_address.ts";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { Session } from "../lib/protocol/session.ts";
import { type Friend, makeFriend, makeFriends } from "./friends.ts";
import {
  AUTH_SUCCESS,
  checksumOf,
  dumbpipeListener,
  echo,
  FakeAnnex,
  listenerAddresses,
  makeConnection,
  randomBytes,
} from "./pair.ts";
import { scenario, type Started, type StartOptions } from "./testenv.ts";

const THROUGH = /ms through the running listener/;
const answered = (text: string) => AUTH_SUCCESS + text;

scenario(
  "warm: processes go through the listener of their repository, on one connection",
  {},
  async (env) => {
    const [a, b] = await makeFriends(env);
    const address = await a.at();
    for (let i = 0; i < 3; i++) {
      const run = await (await b.connect(address, { stdin: `${i}` })).ended;
      assert.deepEqual([run.code, run.stdout], [0, answered(`${i}`)], run.stderr);
      assert.match(run.stderr, THROUGH);
      assert.doesNotMatch(run.stderr, /dialing/);
    }
    // The peer sees who it is, and the other way round takes the same connection.
    assert.equal((await a.log()).match(new RegExp(`${b.key} .* connected`, "g"))!.length, 3);
    const back = await (await a.connect(await b.at(), { stdin: "back" })).ended;
    assert.deepEqual([back.code, back.stdout], [0, answered("back")], back.stderr);
    assert.match(back.stderr, THROUGH);
    const seen = new RegExp(`${a.key} \\(direct (.*?)\\) connected`).exec(await b.log())![1]!;
    assert((await listenerAddresses(a.host, a.address)).includes(seen), seen);
  },
);

scenario("warm: 20 MB each way at once through the listener, by a lane of the process's own", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const data = randomBytes(20_000_000);
  const run = await (await b.connect(await a.at(), { stdin: data })).ended;
  assert.equal(run.code, 0, run.stderr);
  assert.match(run.stderr, THROUGH);
  assert.match(run.stderr, /lane: TLS with/);
  assert.equal(
    await checksumOf(run.stdoutBytes.subarray(AUTH_SUCCESS.length)),
    await checksumOf(data),
  );
});

scenario(
  "warm: the addon is not loaded by a process that goes through the listener",
  { needs: ["proc"] },
  async (env) => {
    const [a, b] = await makeFriends(env);
    const mapsOf = async (process: Started) => {
      await process.says(/AUTH-SUCCESS/);
      return await Deno.readTextFile(`/proc/${process.pid}/maps`);
    };
    const proxied = await b.connect(await a.at(), { stdin: "open" });
    assert.doesNotMatch(await mapsOf(proxied), /\.node/);
    const cold = await b.connect(await a.at(), {
      stdin: "open",
      env: { GIT_ANNEX_P2P_IROH_WARM: "false" },
    });
    assert.match(await mapsOf(cold), /\.node/);
    for (const process of [proxied, cold]) {
      await process.end();
      assert.equal((await process.ended).code, 0);
    }
  },
);

scenario("warm: 100 connects at once through one listener", {
  limitMs: 90_000,
  takesTurns: true,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at(), locator = locatorOf(b);
  const sessions = await Promise.all(Array.from({ length: 100 }, async (_, i) => {
    const proxied = await openSession(locator, address, env.signal);
    const session = new Session(proxied.stream, proxied.closedError);
    await session.writable.getWriter().write(new TextEncoder().encode(`number ${i}`));
    return { proxied, session };
  }));
  await env.until("all to be there at once", () => a.fakeAnnex.open === 100);
  await Promise.all(sessions.map(async ({ proxied, session }, i) => {
    const reader = session.readable.getReader(), right = answered(`number ${i}`);
    let said = "";
    while (said.length < right.length) {
      said += new TextDecoder().decode((await reader.read()).value);
    }
    assert.equal(said, right);
    proxied[Symbol.dispose]();
  }));
  await env.until("all to be gone", () => a.fakeAnnex.open === 0);
  assert.equal(a.fakeAnnex.total, 100);
});

scenario("warm: 30 processes at once all get through", {
  limitMs: 90_000,
  takesTurns: true,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at();
  await Promise.all(Array.from({ length: 30 }, async (_, i) => {
    const run = await (await b.connect(address, { stdin: `${i}` })).ended;
    assert.deepEqual([run.code, run.stdout], [0, answered(`${i}`)], run.stderr);
  }));
});

/** A session through a control server, which has opened it. */
async function openSession(locator: ControlLocator, address: string, signal: AbortSignal) {
  const proxied = await requestSession(
    locator,
    address,
    { id: newSessionId(), isResumed: false },
    signal,
  );
  await proxied.open;
  return proxied;
}

/** The locator of a friend, to be asked by the test itself. */
function locatorOf({ host, repository }: Friend): ControlLocator {
  const folder = join(host.env.XDG_RUNTIME_DIR!, "git-annex-p2p-iroh");
  const settings = parseSettings("", (name) => host.env[name]);
  const locator = locateControlSocket({ gitDir: join(repository, ".git") }, settings, [folder]);
  assert(locator);
  return locator;
}

const DIALING = /\] +[\d.]+ ms dialing/;

/** One process with a word to send, and what its listener's part in it was. */
async function exchange(
  friend: Friend,
  address: string,
  options: StartOptions = {},
): Promise<{ isWarm: boolean; stderr: string }> {
  const run = await (await friend.connect(address, { stdin: "word", ...options })).ended;
  assert.deepEqual([run.code, run.stdout], [0, answered("word")], run.stderr);
  const isWarm = THROUGH.test(run.stderr);
  assert.equal(DIALING.test(run.stderr), !isWarm, run.stderr);
  return { isWarm, stderr: run.stderr };
}

scenario("warm: a process does it all itself where the listener cannot, or is not to", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at();
  const isWarm = async (options?: StartOptions) => (await exchange(b, address, options)).isWarm;
  const setting = (key: string, value: string) => ({
    env: { [`GIT_ANNEX_P2P_IROH_${key}`]: value },
  });
  assert.equal(await isWarm(), true);
  assert.equal(await isWarm(setting("WARM", "false")), false);
  assert.equal(await isWarm(setting("LANE", "false")), false); // whose wire carries one stream
  assert.equal(await isWarm(setting("LAN", "true")), false); // which the listener does not look at
  assert.equal(await isWarm({ cwd: b.host.dir }), false); // there is no repository
  b.listener.kill("SIGSTOP");
  const { isWarm: answers, stderr } = await exchange(b, address);
  assert.equal(answers, false);
  assert.match(stderr, /no answer within 200 ms/);
  b.listener.kill("SIGCONT");
  const { path, text } = await entryOf(b);
  await Deno.writeTextFile(path, text.replace(/"version":"[^"]*"/, '"version":"9.9.9"'));
  assert.equal(await isWarm(), false);
  await Deno.writeTextFile(path, text.replace(/"cookie":"../, '"cookie":"00'));
  assert.equal(await isWarm(), false);
  await Deno.writeTextFile(path, "{");
  assert.equal(await isWarm(), false);
  await Deno.writeTextFile(path, text);
  assert.equal(await isWarm(), true);
  b.listener.kill("SIGKILL");
  await b.listener.ended;
  assert.equal(await isWarm(), false);
  // The next one clears away what the one that was killed has left.
  b.listener = await b.listen();
  assert.equal(await isWarm(), true);
  assert.equal((await controlFiles(b)).filter((name) => name.endsWith(".control")).length, 1);
  b.listener.kill("SIGTERM");
  await b.listener.ended;
  assert.deepEqual(await controlFiles(b), []);
  assert.equal(await isWarm(), false);
});

/** What the control server has in the runtime folder of a friend's user. */
async function controlFiles({ host }: Friend): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(folderOf(host))) {
    if (/\.(control|repository)$/.test(name)) names.push(name);
  }
  return names;
}

function folderOf({ env }: Friend["host"]): string {
  return join(env.XDG_RUNTIME_DIR!, "git-annex-p2p-iroh");
}

/** The file by which processes find the control socket. */
async function entryOf(friend: Friend): Promise<{ path: string; text: string }> {
  const name = (await controlFiles(friend)).find((name) => name.endsWith(".repository"))!;
  const path = join(folderOf(friend.host), name);
  return { path, text: await Deno.readTextFile(path) };
}

scenario("warm: what somebody else has planted in the runtime folder is refused", {
  needs: ["users"],
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at(), { path, text } = await entryOf(b);
  const somebody = 12345;
  const listens = join(folderOf(b.host), "abcdef.control");
  let asked = 0;
  const trap = new FakeAnnex(env, listens, async (connection) => {
    asked++;
    await connection.read(new Uint8Array(100));
  });
  // A socket of somebody else's, in an entry of ours.
  await Deno.chown(listens, somebody, somebody);
  await Deno.writeTextFile(path, text.replace(/"socket":"[^"]*"/, '"socket":"abcdef.control"'));
  assert.match((await exchange(b, address)).stderr, /belongs to another user/);
  // An entry of somebody else's, or a link to one.
  await Deno.writeTextFile(path, text);
  await Deno.chown(path, somebody, somebody);
  assert.equal((await exchange(b, address)).isWarm, false);
  await Deno.rename(path, `${path}.moved`);
  await Deno.symlink(`${path}.moved`, path);
  assert.equal((await exchange(b, address)).isWarm, false);
  await Deno.remove(path);
  await Deno.rename(`${path}.moved`, path);
  await Deno.chown(path, Deno.uid()!, Deno.gid()!);
  assert.equal((await exchange(b, address)).isWarm, true);
  // A folder that others may enter.
  await Deno.chmod(folderOf(b.host), 0o755);
  assert.equal((await exchange(b, address)).isWarm, false);
  await Deno.chmod(folderOf(b.host), 0o700);
  // An entry that leads out of the folder.
  await Deno.writeTextFile(path, text.replace(/"socket":"[^"]*"/, '"socket":"../abcdef.control"'));
  assert.equal((await exchange(b, address)).isWarm, false);
  assert.equal(asked, 0);
  trap.close();
});

scenario(
  "warm: without cookie or valid request, the listener closes a connection",
  {},
  async (env) => {
    const [a, b] = await makeFriends(env);
    const locator = locatorOf(b), address = await a.at();
    for (const cookie of ["", "00".repeat(32), locator.cookie.slice(1)]) {
      const asking = openSession({ ...locator, cookie }, address, env.signal);
      await assert.rejects(asking, { name: "ControlUnavailable" });
    }
    const raw = await Deno.connect({ transport: "unix", path: locator.socketPath });
    const header = Uint8Array.of(0, 0, 0, 0x20, 1); // of a request of 8193 bytes, which it does not wait for
    await raw.write(header);
    const sent = performance.now();
    assert.equal(await raw.read(new Uint8Array(1)), null);
    assert(performance.now() - sent < 1_500, "the listener has waited for the body");
    raw.close();
    const wrong = new Channel(await Deno.connect({ transport: "unix", path: locator.socketPath }));
    await wrong.sendJson(MessageKind.REQUEST, { want: "nonsense", cookie: locator.cookie });
    assert.equal(await wrong.receive(), undefined);
    wrong[Symbol.dispose]();
    await b.listener.says(/control: ChannelError: invalid request/);
    const silent = await Deno.connect({ transport: "unix", path: locator.socketPath });
    assert.equal(await silent.read(new Uint8Array(1)), null); // closed after a while
    silent.close();
    assert.equal((await exchange(b, address)).isWarm, true);
  },
);

scenario("warm: the listener has at most 512 connections with processes", {}, async (env) => {
  const [, b] = await makeFriends(env);
  const { socketPath: path } = locatorOf(b);
  const connections: Deno.UnixConn[] = [];
  while (connections.length < 513) { // few at a time, since connections that wait to be accepted are few
    const more = Array.from({ length: 27 }, () => Deno.connect({ transport: "unix", path }));
    connections.push(...await Promise.all(more));
  }
  const ends = connections.map((connection) => connection.read(new Uint8Array(1)));
  assert.equal(await Promise.race(ends), null);
  await b.listener.says(/control: more than 512 connections/);
  await Promise.all(ends); // none has sent a request in time
  assert.equal((await requestStatus(locatorOf(b), env.signal) as ListenerStatus).peers.length, 0);
  for (const connection of connections) connection.close();
});

scenario("warm: when the listener is killed in mid-stream, the peer is lost", {}, async (env) => {
  const [a, b] = await makeFriends(env);
  const process = await b.connect(await a.at(), { stdin: "open" });
  await process.says(/AUTH-SUCCESS/);
  b.listener.kill("SIGKILL");
  const { code, stderr } = await process.ended;
  assert.equal(code, 1);
  assert.match(
    stderr,
    /: the peer is lost in mid-stream, this repository's listener has ended; try/,
  );
});

scenario("warm: when a process is killed, the peer knows at once", {}, async (env) => {
  const [a, b] = await makeFriends(env);
  const process = await b.connect(await a.at(), { stdin: "open" });
  await process.says(/AUTH-SUCCESS/);
  process.kill("SIGKILL");
  await env.until("git-annex there to be told", () => a.fakeAnnex.open === 0);
  assert.equal((await exchange(b, await a.at())).isWarm, true);
});

scenario("warm: a listener that stops lets end what is under way", {}, async (env) => {
  const [a, b] = await makeFriends(env);
  const process = await b.connect(await a.at(), { stdin: "open" });
  await process.says(/AUTH-SUCCESS/);
  let sent = "";
  b.listener.kill("SIGTERM");
  await b.listener.says(/stopping/);
  for (let i = 0; i < 20; i++) { // so much that it is not taken for idle
    const text = "x".repeat(20_000);
    await process.write(text);
    sent += text;
    await env.until("it to be there", () => process.stdout.length === answered(sent).length);
  }
  await process.end();
  assert.equal((await process.ended).code, 0);
  assert.equal((await b.listener.ended).code, 0);
});

scenario("warm: a peer that was started anew is reached by the next process", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  assert.equal((await exchange(b, await a.at())).isWarm, true);
  // Killed: the connection that is kept leads nowhere, and nobody says so.
  a.listener.kill("SIGKILL");
  await a.listener.ended;
  a.listener = await a.listen();
  const begin = performance.now();
  assert.equal((await exchange(b, await a.at())).isWarm, true);
  const took = performance.now() - begin;
  assert(took < 10_000, `${took} ms`); // a lost peer would be noticed after 25 s
  // The same, and it is the one that was killed that connects.
  a.listener.kill("SIGKILL");
  await a.listener.ended;
  a.listener = await a.listen();
  assert.equal((await exchange(a, await b.at())).isWarm, true);
  assert.equal((await exchange(b, await a.at())).isWarm, true);
  // Stopped in an orderly way: it says so.
  a.listener.kill("SIGTERM");
  await a.listener.ended;
  a.listener = await a.listen();
  assert.equal((await exchange(b, await a.at())).isWarm, true);
});

for (const others of [0, 1]) {
  scenario(`warm: a peer that vanishes is given up within 30 s, with ${others} other sessions`, {
    limitMs: 90_000,
  }, async (env) => {
    const [a, b] = await makeFriends(env);
    const address = await a.at();
    assert.equal((await exchange(b, address)).isWarm, true);
    for (let i = 0; i < others; i++) {
      await (await b.connect(address, { stdin: "open" })).says(/AUTH-SUCCESS/);
    }
    a.listener.kill("SIGSTOP");
    const begin = performance.now();
    const { code, stderr } = await (await b.connect(address, { stdin: "word" })).ended;
    const took = performance.now() - begin;
    assert.equal(code, 1);
    assert.match(
      stderr,
      /it no longer answers, and was dialed again: cannot reach the peer; tried /,
    );
    assert(took < 30_000, `${took} ms`);
  });
}

scenario("warm: what a process is told when its listener does not get through", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const fails = async (address: string) => {
    const { code, stdout, stderr } = await (await b.connect(address, { stdin: "x" })).ended;
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, THROUGH);
    return stderr;
  };
  assert.match(await fails(b.address), /that is this repository's own address/);
  const address = await a.at();
  a.fakeAnnex.close();
  assert.match(
    await fails(address),
    /the peer ended the connection: git annex remotedaemon is not running \(code 2\)/,
  );
  a.listener.kill("SIGTERM");
  await a.listener.ended;
  assert.match(await fails(address), /cannot reach the peer; tried 127\.0\.0\.1:\d+ \(/);
});

scenario("warm: a peer that runs dumbpipe is reached, which the listener leaves to the process", {
  needs: ["dumbpipe"],
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const { ticket } = await dumbpipeListener(env, a.host, a.fakeAnnex.path);
  for (let i = 0; i < 2; i++) {
    const run = await (await b.connect(ticket, { stdin: "word" })).ended;
    assert.deepEqual([run.code, run.stdout], [0, answered("word")], run.stderr);
    assert.match(run.stderr, /not through the running listener/);
  }
});

scenario("warm: repositories of one user, and of three, do not get in each other's way", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const c = await makeFriend(env, await env.host("c"));
  const second = await makeFriend(env, b.host, echo, "second"); // of b's user
  const all = [a, b, c, second];
  for (const from of all) {
    for (const to of all.filter((to) => to !== from)) {
      assert.equal((await exchange(from, await to.at())).isWarm, true);
      assert.match(await to.log(), new RegExp(`${from.key} .* connected`));
    }
  }
});

scenario("warm: a connection carries sessions of both ends at once, and is kept for a while", {
  limitMs: 60_000,
}, async (env) => {
  await using both = await makeConnection(env);
  const { dialer, acceptor } = both;
  const serve = async (peer: InboundSession) => {
    peer.markAuthenticated();
    await peer.session.readable.pipeTo(peer.session.writable);
  };
  const idleTimeoutMs = 500;
  const ends = [dialer, acceptor].map((connection) => {
    const isDialed = connection === dialer;
    const mux = new MuxConnection(connection, { isDialed, bind: undefined, serve, idleTimeoutMs });
    return { mux, over: mux.serve(env.signal).catch((error) => error) };
  });
  for (let round = 0; round < 3; round++) {
    await Promise.all(ends.flatMap(({ mux }) =>
      Array.from({ length: 45 }, async (_, i) => {
        using opened = await mux.open(env.signal, { id: newSessionId(), isResumed: false });
        const session = new Session(opened.stream, mux.connection.closedError);
        const writer = session.writable.getWriter(), text = `${round} ${i}`;
        const sending = writer.write(new TextEncoder().encode(text)).then(() => writer.close());
        assert.equal(await new Response(session.readable).text(), text);
        await sending;
        assert.equal(mux.idleSince, undefined);
      })
    ));
  }
  const idle = performance.now();
  const [first] = await Promise.all(ends.map(({ over }) => over));
  assert(first instanceof IdleTimeout);
  assert.deepEqual(first.closeReason, [0n, ""]);
  assert(performance.now() - idle > idleTimeoutMs / 2);
});

/** Kills a listener; somebody then answers nothing at its port, so that nothing is refused either. */
async function fallSilent(friend: Friend) {
  const address = await friend.at(), bind = decodeTicket(address).direct[0]!;
  friend.listener.kill("SIGKILL");
  await friend.listener.ended;
  const { host: hostname, port } = splitSocketAddress(bind);
  const silent = Deno.listenDatagram({ transport: "udp", hostname, port });
  return { address, bind, silent };
}

scenario("warm: one who was away a moment ago is not waited for as long again", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const { address, silent } = await fallSilent(a);
  for (const seconds of [25, 4, 4]) {
    const { code, stderr } = await (await b.connect(address, { stdin: "x" })).ended;
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`\\(no answer within ${seconds} s\\)`));
  }
  silent.close();
  a.listener = await a.listen();
  assert.equal((await exchange(b, await a.at())).isWarm, true);
});

scenario("warm: when the listener is killed while it dials, the process goes on by itself", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const { address, bind, silent } = await fallSilent(a);
  const process = await b.connect(address, { stdin: "word" });
  await process.says(THROUGH);
  b.listener.kill("SIGKILL");
  await process.says(/not through the running listener: it has ended/);
  silent.close();
  a.listener = await a.listen({ env: { GIT_ANNEX_P2P_IROH_BIND: bind } });
  const { code, stdout, stderr } = await process.ended;
  assert.deepEqual([code, stdout], [0, answered("word")], stderr);
});

scenario(
  "warm: status answers while a hundred sessions are opened",
  { limitMs: 90_000 },
  async (env) => {
    const [a, b] = await makeFriends(env);
    const address = await a.at(), locator = locatorOf(b);
    const opening = Promise.all(
      Array.from({ length: 100 }, () => openSession(locator, address, env.signal)),
    );
    const count = async () => {
      const { peers } = await requestStatus(locator, env.signal) as ListenerStatus;
      return peers[0]?.sessions.outgoing ?? 0;
    };
    await count();
    const sessions = await opening;
    assert.equal(await count(), 100);
    for (const session of sessions) session[Symbol.dispose]();
    await env.until("all to be over", async () => await count() === 0);
  },
);
