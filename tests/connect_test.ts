/** The connecting process: which peers it reaches, and what it says if it reaches none. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Endpoint } from "../lib/iroh/endpoint.ts";
import { DUMBPIPE_ALPN, receiveHandshake } from "../lib/protocol/dumbpipe.ts";
import { MUX_ALPN, readStreamHeader } from "../lib/protocol/mux.ts";
import { Session } from "../lib/protocol/session.ts";
import { encodeTicket } from "../lib/repository/ticket.ts";
import {
  addressAt,
  AUTH_SUCCESS,
  AUTH_SUCCESS_BYTES,
  checksumOf,
  echo,
  makePair,
  makeRepository,
  randomBytes,
  unknownAddress,
  writeAll,
} from "./pair.ts";
import { assertOneLine, scenario, type TestEnv } from "./testenv.ts";
import { python } from "./tools.ts";

const unknown = unknownAddress();

scenario(
  "connect reaches a repository on the same host by its bare address, from any folder",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    const on = pair.network.a;
    const other = await makeRepository(env, on, "other");
    await env.ok(["git-annex-p2p-iroh", "address"], { on, cwd: other });
    for (const cwd of [other, on.dir, "/"]) {
      const run = await env.iroh([pair.address], { on, cwd, stdin: "hello\n" });
      assert.deepEqual([run.code, run.stdout, run.stderr], [0, `${AUTH_SUCCESS}hello\n`, ""], cwd);
    }
  },
);

scenario(
  "connect ignores what a killed listener on the same host has left",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    pair.listener.kill("SIGKILL");
    await pair.listener.ended;
    const run = await env.iroh([pair.address], { on: pair.network.a, stdin: "" });
    assert.equal(run.code, 1);
    assert.match(run.stderr, /no route to it is known/);
    await (await pair.listen()).says(/serving endpoint/);
    assert.equal((await env.iroh([pair.address], { on: pair.network.a, stdin: "" })).code, 0);
  },
);

scenario(
  "connect finds a listener that was started without XDG_RUNTIME_DIR, as cron does",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    const second = await pair.listen({ env: { XDG_RUNTIME_DIR: "" } });
    await pair.listener.ended;
    await second.says(/serving endpoint/);
    const run = await env.iroh([pair.address], { on: pair.network.a, stdin: "hello\n" });
    assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}hello\n`]);
  },
);

scenario("connect refuses the repository's own address", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  for (const warm of ["true", "false"]) { // by its listener, and by itself
    const run = await env.iroh([pair.address], {
      on: pair.network.a,
      cwd: pair.repository,
      stdin: "",
      env: { GIT_ANNEX_P2P_IROH_WARM: warm },
    });
    assert.equal(run.code, 1, run.stdout);
    assertOneLine(run.stderr);
    assert.match(
      run.stderr,
      /: that is this repository's own address; use the address of a peer\n/,
    );
  }
});

scenario("connect says what is wrong with an address", {}, async (env) => {
  const cases: [address: string, says: RegExp][] = [
    ["hello", /unknown command "hello"; see git-annex-p2p-iroh --help/],
    ["hello!", /"hello!" is not an address; an address starts with endpoint/],
    [`blob${"a".repeat(60)}`, /is a blob ticket, not an address/],
    [unknown.slice(0, -3), /is damaged/],
    [
      encodeTicket({ publicKey: new Uint8Array(32).fill(2), relays: ["http://127.0.0.1:9/"] }),
      /names no key/,
    ],
  ];
  for (const [address, says] of cases) {
    const run = await env.iroh([address], {
      stdin: "",
      env: { GIT_ANNEX_P2P_IROH_RELAY: "http://127.0.0.1:9" },
    });
    assert.equal(run.code, 2, address);
    assertOneLine(run.stderr);
    assert.match(run.stderr, says);
  }
});

scenario("connect says that git is missing", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo), on = pair.network.b;
  const program = join(on.dir, "bin", "git-annex-p2p-iroh");
  const run = await env.run([program, pair.dialed], {
    on,
    stdin: "hello\n",
    env: { PATH: "/nonexistent" },
  });
  assert.deepEqual([run.code, run.stdout], [1, ""]);
  assertOneLine(run.stderr);
  assert.match(run.stderr, /: git is not on PATH; install git, or correct PATH\n$/);
  assert.equal(pair.fakeAnnex.total, 0);
});

scenario("connect says at once that no route to the peer is known", {}, async (env) => {
  const run = await env.iroh([unknown], { stdin: "" });
  assert.equal(run.code, 1);
  assertOneLine(run.stderr);
  assert.match(run.stderr, /cannot reach the peer, no route to it is known; /);
});

scenario("connect exits 0 if the peer sends its end and closes while stdin has more data", {
  limitMs: 90_000,
}, async (env) => {
  const pair = await makePair(env, "loopback", async (connection) => {
    await writeAll(connection, AUTH_SUCCESS_BYTES);
    await connection.read(new Uint8Array(100_000));
    await writeAll(connection, new TextEncoder().encode("enough"));
    connection.close();
  });
  for (let i = 0; i < 12; i++) {
    const run = await (await pair.connect({ stdin: new Uint8Array(3_000_000) })).ended;
    assert.deepEqual([run.code, run.stdout, run.stderr], [0, `${AUTH_SUCCESS}enough`, ""]);
  }
});

scenario(
  "connect loses nothing if its stdout is non-blocking",
  {},
  async (env) => {
    const data = randomBytes(1_000_000);
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, data);
    });
    const command = python("nonblocking_stdout.py", pair.dialed);
    const said = await env.ok(command, { on: pair.network.b });
    assert.equal(said.trim(), `${await checksumOf(data)} 0`);
  },
);

/** Makes a peer in the test itself that accepts one protocol, and the address to dial. */
async function makePeer(env: TestEnv, alpn: string): Promise<{ peer: Endpoint; dialed: string }> {
  const bind = "127.0.0.1:0";
  const options = { relay: { kind: "none" }, lookup: false, bind, alpns: [alpn] } as const;
  const peer = await Endpoint.bind(options);
  env.cleanup(() => peer[Symbol.asyncDispose]());
  const address = encodeTicket({ publicKey: peer.publicKey, relays: [] });
  return { peer, dialed: addressAt(address, peer.boundSockets()[0]!) };
}

for (const alpn of [MUX_ALPN, DUMBPIPE_ALPN]) {
  scenario(
    `connect tells a stream that the peer gave up from a lost peer, on ${alpn}`,
    {},
    async (env) => {
      const { peer, dialed } = await makePeer(env, alpn);
      const dialer = await env.start(["git-annex-p2p-iroh", dialed], {
        stdin: "open",
        env: { GIT_ANNEX_P2P_IROH_LANE: `${alpn === MUX_ALPN}` }, // without lanes the dialer uses dumbpipe's protocol
      });
      const { value: incoming } = await env.within(peer.incoming().next());
      const connection = await incoming!.accept(env.signal);
      const stream = await connection.accept(env.signal);
      if (alpn === MUX_ALPN) await readStreamHeader(stream);
      else await receiveHandshake(stream);
      const { writable } = alpn === MUX_ALPN ? new Session(stream, connection.closedError) : stream;
      const writer = writable.getWriter();
      await writer.write(new TextEncoder().encode(`${AUTH_SUCCESS}DATA 1000000\n`));
      await dialer.says(/DATA 1000000\n/);
      const started = performance.now();
      await writer.abort(); // which leaves the connection open
      // In dumbpipe's protocol each direction ends by itself, so stdin must end, too.
      if (alpn === DUMBPIPE_ALPN) await dialer.end();
      const { code, stdout, stderr } = await dialer.ended;
      assert(performance.now() - started < 5_000); // a lost peer would take longer
      assert.deepEqual([code, stdout], [1, `${AUTH_SUCCESS}DATA 1000000\n`]);
      assertOneLine(stderr);
      assert.match(
        stderr,
        /: the peer gave up the stream; try again, and see whether git-annex there says why\n/,
      );
      assert.doesNotMatch(stderr, /lost/);
    },
  );
}

scenario("connect says that it cannot open its UDP socket", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const run = await env.iroh([pair.dialed], {
    stdin: "",
    env: { GIT_ANNEX_P2P_IROH_BIND: "192.0.2.1:7" },
  });
  assert.equal(run.code, 1);
  assertOneLine(run.stderr);
  assert.match(run.stderr, /cannot open a UDP socket on 192\.0\.2\.1:0, .*; .*p2p-iroh\.bind/);
});
