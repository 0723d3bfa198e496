/** The listener: who gets in, who does not, and that none harms another. */

import assert from "node:assert/strict";
import { join } from "node:path";
import type { Duplex } from "../lib/streams/duplex.ts";
import type { Connection } from "../lib/iroh/connection.ts";
import { Endpoint } from "../lib/iroh/endpoint.ts";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { MUX_ALPN, StreamType } from "../lib/protocol/mux.ts";
import { DUMBPIPE_ALPN, sendHandshake } from "../lib/protocol/dumbpipe.ts";
import {
  AUTH_SUCCESS,
  echo,
  FakeAnnex,
  makePair,
  makeRepository,
  type Pair,
  silence,
  writeAll,
} from "./pair.ts";
import { type Run, scenario, type TestEnv } from "./testenv.ts";
import { python } from "./tools.ts";

const text = new TextEncoder();

/** Dials a listener from the test itself, with a key of its own. */
async function dial(env: TestEnv, pair: Pair, alpn = DUMBPIPE_ALPN): Promise<Connection> {
  const endpoint = await Endpoint.bind({ relay: { kind: "none" }, lookup: false });
  env.cleanup(() => endpoint[Symbol.asyncDispose]());
  const { publicKey, direct } = decodeTicket(pair.dialed);
  return await endpoint.connect({ publicKey, direct }, alpn, env.signal);
}

async function send(stream: Duplex, data: string): Promise<void> {
  const writer = stream.writable.getWriter();
  await writer.write(text.encode(data));
  writer.releaseLock();
}

/** In place of a socket file one that refuses, as a process leaves it that is ended with SIGKILL. */
async function leaveDeadSocket(env: TestEnv, path: string): Promise<void> {
  await env.ok(python("dead_socket.py", `${path}-dead`));
  await Deno.rename(`${path}-dead`, path);
}

/** A peer that has been let in and goes on; `works` fails unless bytes still go there and back. */
async function friend(pair: Pair): Promise<{ works(): Promise<void> }> {
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

function exchange(pair: Pair): Promise<Run> {
  return pair.connect({ stdin: "hello\n" }).then(({ ended }) => ended);
}

scenario("serve says that it serves, on stderr and in the log", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const line = `serving ${pair.address}`;
  assert.match(pair.listener.stderr, new RegExp(`^git-annex-p2p-iroh: ${line}$`, "m"));
  assert.match(await pair.log(), new RegExp(`^\\S+Z \\[\\d+\\] ${line}$`, "m"));
  assert.equal(pair.listener.stdout, "");
});

scenario("serve turns away whoever does not say hello, and goes on for the others", {
  limitMs: 90_000,
}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const { works } = await friend(pair);

  const wrong = await dial(env, pair);
  await send(await wrong.open(), "GET / HTTP/1.1\r\n");
  assert.deepEqual(await wrong.closed, { by: "peer", code: 4n, reason: "no hello" });
  await works();

  const short = await dial(env, pair);
  const stream = await short.open();
  await send(stream, "hel");
  await stream.writable.close().catch(() => {}); // the listener closes before it has acknowledged
  assert.deepEqual(await short.closed, { by: "peer", code: 4n, reason: "no hello" });
  await works();

  const started = performance.now();
  const silent = await dial(env, pair); // opens no stream
  const halting = await dial(env, pair); // begins a hello
  await send(await halting.open(), "hel");
  const ends = await Promise.all([silent.closed, halting.closed]);
  for (const end of ends) assert.deepEqual(end, { by: "peer", code: 4n, reason: "no hello" });
  const seconds = (performance.now() - started) / 1000;
  assert(seconds > 9 && seconds < 15, `${seconds} s`);
  await works();

  const gone = await dial(env, pair);
  const half = await gone.open();
  await sendHandshake(half);
  await half.writable.abort(); // a reset in mid-stream
  gone.close(7n, "never mind");
  await works();

  assert.equal((await exchange(pair)).code, 0);
  assert.match(await pair.log(), /was turned away, not a hello/);
  assert.match(await pair.log(), /was turned away, no hello in time/);
});

scenario("serve turns away whoever is silent on the mux protocol, and goes on for the others", {
  limitMs: 90_000,
}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const { works } = await friend(pair);
  const started = performance.now();
  const silent = await dial(env, pair, MUX_ALPN); // opens no stream
  const halting = await dial(env, pair, MUX_ALPN); // begins to say what a stream is for
  await send(await halting.open(), String.fromCharCode(StreamType.SESSION, 0, 0));
  const ends = await Promise.all([silent.closed, halting.closed]);
  for (const end of ends) assert.deepEqual(end, { by: "peer", code: 4n, reason: "no hello" });
  const seconds = (performance.now() - started) / 1000;
  assert(seconds > 9 && seconds < 15, `${seconds} s`);
  await works();
  assert.equal(pair.fakeAnnex.total, 1); // git-annex has not been asked for them
  assert.equal((await exchange(pair)).code, 0);
});

scenario("serve ends a connection on dumbpipe's protocol, too, that is not let in after 30 s", {
  limitMs: 90_000,
}, async (env) => {
  // Lets in whoever says so first, like git-annex.
  const pair = await makePair(env, "loopback", async (connection) => {
    const first = new Uint8Array(100);
    if (await connection.read(first) === null) return;
    if (new TextDecoder().decode(first).startsWith("AUTH good")) return await echo(connection);
    await writeAll(connection, text.encode("AUTH-FAILURE\n"));
    while (await connection.read(first) !== null);
  });
  const good = await pair.connect({ stdin: "open" });
  await good.write("AUTH good\n");
  await good.says(/AUTH-SUCCESS/);
  const started = performance.now();
  const silent = await dial(env, pair); // says hello, and no more
  await sendHandshake(await silent.open());
  const bad = await dial(env, pair);
  const stream = await bad.open();
  await sendHandshake(stream);
  await send(stream, "AUTH wrong\n");
  const reader = stream.readable.getReader();
  assert.equal(new TextDecoder().decode((await reader.read()).value), "AUTH-FAILURE\n");
  const ends = await Promise.all([silent.closed, bad.closed]);
  const notAuthenticated = { by: "peer", code: 5n, reason: "not authenticated in time" };
  for (const end of ends) assert.deepEqual(end, notAuthenticated);
  const seconds = (performance.now() - started) / 1000;
  assert(seconds > 29 && seconds < 35, `${seconds} s`);
  await env.until("git-annex's sides to be closed", () => pair.fakeAnnex.open === 1);
  await good.write("still there\n");
  await good.says(/still there/);
  await good.end();
  assert.equal((await good.ended).code, 0);
});

scenario("serve passes on to git-annex that a peer has given up a stream", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const connection = await dial(env, pair);
  const stream = await connection.open();
  await sendHandshake(stream);
  const reader = stream.readable.getReader();
  await reader.read(); // AUTH-SUCCESS
  assert.equal(pair.fakeAnnex.open, 1);
  await stream.writable.abort(); // and the connection stays
  await env.until("git-annex's side to be closed", () => pair.fakeAnnex.open === 0);
  await connection.closed;
});

scenario("serve ends a connection that git-annex has not let in after 30 s, and no other", {
  limitMs: 90_000,
}, async (env) => {
  // Lets in whoever says so, like git-annex; others may go on talking.
  const pair = await makePair(env, "loopback", async (connection) => {
    const first = new Uint8Array(100);
    const length = await connection.read(first);
    const good = new TextDecoder().decode(first.subarray(0, length ?? 0)).startsWith("AUTH good");
    await writeAll(connection, text.encode(good ? AUTH_SUCCESS : "AUTH-FAILURE\n"));
    while (await connection.read(first) !== null) {
      if (good) await writeAll(connection, first.subarray(0, 1));
    }
  });
  const good = await pair.connect({ stdin: "open" });
  await good.write("AUTH good\n");
  await good.says(/AUTH-SUCCESS/);
  const started = performance.now();
  const bad = await pair.connect({ stdin: "open" });
  await bad.write("AUTH wrong\n");
  await bad.says(/AUTH-FAILURE/);
  const { code, stderr } = await bad.ended;
  const seconds = (performance.now() - started) / 1000;
  assert(seconds > 29 && seconds < 35, `${seconds} s`);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^git-annex-p2p-iroh: the peer ended the connection: not authenticated in time \(code 5\); .*\n$/,
  );
  assert.equal(good.code, undefined);
  await good.end();
  assert.equal((await good.ended).code, 0);
  assert.match(await pair.log(), /was turned away, it did not authenticate within 30 s/);
});

scenario("serve ends in an orderly way when git-annex refuses and closes", {}, async (env) => {
  let isFirst = true;
  const pair = await makePair(env, "loopback", async (connection) => {
    if (isFirst) {
      isFirst = false;
      return await echo(connection);
    }
    await connection.read(new Uint8Array(100));
    await writeAll(connection, text.encode("AUTH-FAILURE\n"));
  });
  const { works } = await friend(pair);
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.write("AUTH wrong\n");
  const { code, stdout, stderr } = await dialer.ended;
  assert.deepEqual([code, stdout, stderr], [0, "AUTH-FAILURE\n", ""]);
  await works();
});

scenario("serve keeps room for peers who authenticate, however many strangers there are", {
  limitMs: 120_000,
}, async (env) => {
  const settings = { GIT_ANNEX_P2P_IROH_MAX_CONNECTIONS: "5" };
  // Silent until somebody says AUTH, as git-annex is.
  const pair = await makePair(env, "loopback", async (connection) => {
    const first = new Uint8Array(100);
    if (await connection.read(first) === null) return;
    await echo(connection);
  }, settings);
  const good = await pair.connect({ stdin: "open" });
  await good.write("AUTH\n");
  await good.says(/AUTH-SUCCESS/);

  const strangers: Connection[] = [];
  for (let i = 0; i < 12; i++) {
    const stranger = await dial(env, pair);
    await sendHandshake(await stranger.open());
    strangers.push(stranger);
  }
  // Twelve strangers share the four places that are left, the newest of them.
  const ended = await Promise.all(strangers.slice(0, 8).map(({ closed }) => closed));
  for (const end of ended) {
    assert.deepEqual(end, { by: "peer", code: 1n, reason: "too many connections" });
  }
  await env.until("the last four to be served", () => pair.fakeAnnex.open === 5);

  const friends = await Promise.all([1, 2, 3, 4].map(async (i) => {
    const friend = await pair.connect({ stdin: "open" });
    await friend.write(`AUTH\n`);
    await friend.says(/AUTH-SUCCESS/);
    await friend.write(`friend ${i}\n`);
    await friend.says(new RegExp(`friend ${i}`));
    return friend;
  }));
  // Five have authenticated: there is no place for a sixth, and it is told so.
  const sixth = await pair.connect({ stdin: "AUTH\n" });
  const { code, stderr } = await sixth.ended;
  assert.equal(code, 1);
  assert.match(
    stderr,
    /cannot reach the peer; tried .* \(the peer takes no more connections now\)/,
  );
  for (const one of [good, ...friends]) {
    await one.end();
    assert.equal((await one.ended).code, 0);
  }
  assert.equal((await (await pair.connect({ stdin: "AUTH\n" })).ended).code, 0);
});

scenario(
  "serve tells the peer when nobody listens on the socket, and stops when that stays so",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    await leaveDeadSocket(env, pair.fakeAnnex.path);
    const run = await exchange(pair);
    assert.equal(run.code, 1);
    assert.match(
      run.stderr,
      /^git-annex-p2p-iroh: the peer ended the connection: git annex remotedaemon is not running \(code 2\)/,
    );
    assert.equal((await pair.listener.ended).code, 0);
    assert.match(await pair.log(), /stopping, git-annex no longer listens on its socket/);
  },
);

scenario("serve waits for a socket that refuses for a moment only", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  // In one step, so that the file is never missing: that is tolerated for a shorter time.
  await leaveDeadSocket(env, pair.fakeAnnex.path);
  const early = await dial(env, pair);
  await sendHandshake(await early.open());
  const turnedAway = { by: "peer", code: 2n, reason: "git annex remotedaemon is not running" };
  assert.deepEqual(await early.closed, turnedAway);
  await Deno.rename(new FakeAnnex(env, join(env.dir, "again"), echo).path, pair.fakeAnnex.path);
  const run = await exchange(pair);
  assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}hello\n`]);
});

scenario(
  "serve goes by its own path to the socket, relative, deep and with spaces",
  {},
  async (env) => {
    const host = await env.host("a");
    const repository = await makeRepository(env, host, `übrig ${"x".repeat(100)}`);
    const folder = join(repository, ".git", "annex", "p2p");
    await Deno.mkdir(folder, { recursive: true });
    const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: host, cwd: repository }))
      .trim();
    const short = join(env.dir, "s");
    new FakeAnnex(env, short, echo);
    await Deno.symlink(short, join(folder, "d41d8cd98f00b204e9800998ecf8427e"));
    await Deno.mkdir(join(repository, "sub"));
    const relative = ".git/annex/p2p/d41d8cd98f00b204e9800998ecf8427e";
    const cases: [cwd: string, path: string][] = [
      [repository, relative],
      [join(repository, "sub"), `../${relative}`],
      [join(repository, ".git"), "./annex/p2p/d41d8cd98f00b204e9800998ecf8427e"],
      [host.dir, join(repository, relative)],
    ];
    assert(cases[3]![1].length > 108);
    for (const [cwd, path] of cases) {
      const from = path === cases[3]![1] ? repository : cwd;
      const listener = await env.start(["git-annex-p2p-iroh", address, path], {
        on: host,
        cwd: from,
      });
      await listener.says(/serving endpoint/);
      const run = await env.iroh([address], { on: host, stdin: "hello\n" });
      assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}hello\n`], path);
      listener.kill("SIGTERM");
      assert.equal((await listener.ended).code, 0);
    }
  },
);

scenario("serve says what is wrong and what to do, on stderr and in the log", {}, async (env) => {
  const pair = await makePair(env, "loopback", silence);
  const host = pair.network.a;
  const other = await makeRepository(env, host, "other");
  const otherAddress = (await env.ok(["git-annex-p2p-iroh", "address"], { on: host, cwd: other }))
    .trim();
  const bare = await makeRepository(env, host, "without-identity");
  const cases: [args: string[], cwd: string, says: RegExp, logged: boolean][] = [
    [
      [pair.address, "/nonexistent/socket"],
      pair.repository,
      /socket \/nonexistent\/socket: no such file.*; .*remotedaemon/,
      true,
    ],
    [
      [otherAddress, pair.fakeAnnex.path],
      pair.repository,
      /not of this repository's present identity/,
      true,
    ],
    [
      [pair.address, pair.fakeAnnex.path],
      bare,
      /no identity; run git annex p2p --enable iroh/,
      true,
    ],
    [[pair.address, pair.fakeAnnex.path], host.dir, /this is not a git repository/, false],
    [["nonsense", pair.fakeAnnex.path], pair.repository, /"nonsense" is not an address/, true],
  ];
  for (const [args, cwd, says, logged] of cases) {
    const { code, stdout, stderr } = await env.iroh(args, { on: host, cwd });
    assert(code === 1 || code === 2, `exit status ${code}`);
    assert.equal(stdout, "");
    assert.match(stderr, /^git-annex-p2p-iroh: [^\n]*\n$/);
    assert.match(stderr, says);
    if (logged) {
      assert.match(await Deno.readTextFile(join(cwd, ".git/annex/p2p-iroh/log")), says);
    }
  }
  assert.equal(pair.listener.code, undefined);
});
