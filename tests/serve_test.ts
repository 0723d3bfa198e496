/** The listener: what it reports, and how it deals with the socket of git-annex. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { sendHandshake } from "../lib/protocol/dumbpipe.ts";
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
import { dial, friend } from "./strangers.ts";
import { type Run, scenario, type TestEnv } from "./testenv.ts";
import { python } from "./tools.ts";

const text = new TextEncoder();

/** Replaces a socket file by one that refuses connections, as a process leaves it on SIGKILL. */
async function leaveDeadSocket(env: TestEnv, path: string): Promise<void> {
  await env.ok(python("dead_socket.py", `${path}-dead`));
  await Deno.rename(`${path}-dead`, path);
}

function exchange(pair: Pair): Promise<Run> {
  return pair.connect({ stdin: "hello\n" }).then(({ ended }) => ended);
}

scenario("serve reports on stderr and in the log that it serves", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const line = `serving ${pair.address}`;
  assert.match(pair.listener.stderr, new RegExp(`^git-annex-p2p-iroh: ${line}$`, "m"));
  assert.match(await pair.log(), new RegExp(`^\\S+Z \\[\\d+\\] ${line}$`, "m"));
  assert.equal(pair.listener.stdout, "");
});

scenario(
  "serve closes the connection to git-annex when a peer gives up a stream",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    const connection = await dial(env, pair);
    const stream = await connection.open();
    await sendHandshake(stream);
    const reader = stream.readable.getReader();
    await reader.read(); // AUTH-SUCCESS
    assert.equal(pair.fakeAnnex.open, 1);
    await stream.writable.abort(); // which leaves the connection open
    await env.until("git-annex's side to be closed", () => pair.fakeAnnex.open === 0);
    await connection.closed;
  },
);

scenario(
  "serve ends a session in an orderly way when git-annex refuses the peer and closes",
  {},
  async (env) => {
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
  },
);

scenario("serve does not stop if the socket refuses only for a moment", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  // In one step, since the listener tolerates a missing file for a shorter time.
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
  "serve tells the peer that no process listens on the socket, and stops if that persists",
  { waits: true },
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

scenario(
  "serve takes the path of the socket as it is: relative, long, with spaces, a symbolic link",
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

scenario("serve reports on stderr and in the log what is wrong and what to do", {}, async (env) => {
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
