/** The connecting side: whom it reaches, and what it says when it does not. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { newIdentity } from "../lib/repository/identity.ts";
import { Endpoint } from "../lib/iroh/endpoint.ts";
import { decodeTicket, encodeTicket } from "../lib/repository/ticket.ts";
import { MUX_ALPN, readStreamHeader } from "../lib/protocol/mux.ts";
import { DUMBPIPE_ALPN, receiveHandshake } from "../lib/protocol/dumbpipe.ts";
import { Session } from "../lib/protocol/session.ts";
import { freePort, makeLoopback } from "./network.ts";
import {
  addressAt,
  AUTH_SUCCESS,
  checksumOf,
  echo,
  FakeAnnex,
  makePair,
  makeRepository,
  type Pair,
  randomBytes,
  ROUTES,
  silence,
  writeAll,
} from "./pair.ts";
import {
  type Host,
  killQuietly,
  type Run,
  scenario,
  type Started,
  type TestEnv,
  type Tool,
} from "./testenv.ts";
import { python } from "./tools.ts";

const unknown = encodeTicket({ publicKey: newIdentity().publicKey, relays: [] });

/** One line, and none of what nobody wants to see. */
function assertOneLine(stderr: string): void {
  assert.match(stderr, /^git-annex-p2p-iroh: [^\n]+\n$/);
  assert.doesNotMatch(stderr, /backtrace|\sat\s|undefined|\[object|Error:|panicked/);
}

scenario(
  "connect reaches a repository on the same host by its bare address, from anywhere",
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
  "connect looks past the entry of a listener on the same host that was killed",
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
  const run = await env.iroh([pair.address], {
    on: pair.network.a,
    cwd: pair.repository,
    stdin: "",
  });
  assert.equal(run.code, 1);
  assertOneLine(run.stderr);
  assert.match(run.stderr, /: that is this repository's own address; use the address of a peer\n/);
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

scenario("connect says when git is not there", {}, async (env) => {
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

scenario("connect says when no way to the peer is known, at once", {}, async (env) => {
  const run = await env.iroh([unknown], { stdin: "" });
  assert.equal(run.code, 1);
  assertOneLine(run.stderr);
  assert.match(run.stderr, /cannot reach the peer, no route to it is known; /);
});

scenario(
  "connect gives up within 30 s, and says what it tried",
  { needs: ["namespaces"] },
  async (env) => {
    const pair = await makePair(env, "direct", echo);
    // The host is there, but nothing answers.
    await env.ok(["sh", "-c", "ip link set eth0 down"], { on: pair.network.a });
    const started = performance.now();
    const run = await (await pair.connect({ stdin: "" })).ended;
    const seconds = (performance.now() - started) / 1000;
    assert(seconds < 30, `${seconds} s`);
    assert.equal(run.code, 1);
    assertOneLine(run.stderr);
    assert.match(
      run.stderr,
      /cannot reach the peer; tried 10\.77\.0\.1:\d+ \(no answer within 25 s\); is git annex remotedaemon running there/,
    );
  },
);

scenario("connect notices within 30 s that the peer is lost", {
  needs: ["namespaces"],
  limitMs: 90_000,
}, async (env) => {
  const pair = await makePair(env, "direct", silence);
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  await env.ok(["sh", "-c", "ip link set eth0 down"], { on: pair.network.a });
  const started = performance.now();
  const { code, stderr } = await dialer.ended;
  const seconds = (performance.now() - started) / 1000;
  assert(seconds < 30, `${seconds} s`);
  assert.equal(code, 1);
  assertOneLine(stderr);
  assert.match(stderr, /the peer is lost in mid-stream, /);
  // The listener notices, too, and lets go of git-annex.
  await env.until("git-annex's side to be closed", () => pair.fakeAnnex.open === 0);
  assert((performance.now() - started) / 1000 < 30);
  assert.match(await pair.log(), /was lost/);
});

scenario("connect notices a listener that was killed, through a relay, too", {
  needs: ["iroh-relay"],
  limitMs: 90_000,
}, async (env) => {
  const pair = await makePair(env, "relay", silence);
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  pair.listener.kill("SIGKILL");
  const started = performance.now();
  const { code, stderr } = await dialer.ended;
  const seconds = (performance.now() - started) / 1000;
  assert(seconds < 30, `${seconds} s`);
  assert.equal(code, 1);
  assertOneLine(stderr);
  assert.match(stderr, /the peer is lost in mid-stream, /);
});

scenario("connect exits 0 when the peer has said all and closes while stdin flows", {
  limitMs: 90_000,
}, async (env) => {
  const pair = await makePair(env, "loopback", async (connection) => {
    await writeAll(connection, new TextEncoder().encode(AUTH_SUCCESS));
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
  "connect loses nothing when somebody has made its stdout non-blocking",
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

scenario("connect ends on a signal while nobody takes what it sends", {}, async (env) => {
  const stalled = await makePair(env, "loopback", async (connection) => {
    await writeAll(connection, new TextEncoder().encode(AUTH_SUCCESS));
    await new Promise(() => {}); // reads nothing, ever
  });
  const sending = await stalled.connect({ stdin: new Uint8Array(20_000_000) });
  await sending.says(/AUTH-SUCCESS/);
  sending.kill("SIGTERM");
  assert.equal((await sending.ended).code, 143);
});

scenario(
  "connect ends on a signal while nobody reads its stdout",
  { needs: ["namespaces", "proc"] },
  async (env) => {
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, new TextEncoder().encode(AUTH_SUCCESS));
      for (const chunk = new Uint8Array(64 * 1024);;) await writeAll(connection, chunk);
    });
    const script = "git-annex-p2p-iroh $0 & echo $! >&2; wait $!; echo status $? >&2";
    const dialer = await env.start(["sh", "-c", script, pair.dialed], {
      on: pair.network.b,
      stdin: "open",
      collect: false,
    });
    const pid = Number(/\d+/.exec(await dialer.says(/^\d+/))![0]);
    await env.until("git-annex to be asked", () => pair.fakeAnnex.open === 1);
    let before = -1;
    await env.until("stdout to be full", async () => {
      const now = await writtenBy(pid);
      const same = now > 0 && now === before;
      before = now;
      await new Promise((resolve) => setTimeout(resolve, 300)); // long for a pipe that is read
      return same;
    });
    killQuietly(pid, "SIGTERM");
    await dialer.says(/status 143/);
  },
);

/** Bytes that a process has written so far (proc(5)). */
async function writtenBy(pid: number): Promise<number> {
  return Number(/wchar: (\d+)/.exec(await Deno.readTextFile(`/proc/${pid}/io`))![1]);
}

async function served(env: TestEnv, pair: Pair): Promise<Started> {
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  await env.until("git-annex to be asked", () => pair.fakeAnnex.open === 1);
  return dialer;
}

for (const route of ROUTES) {
  const needs: Tool[] = route === "relay" ? ["iroh-relay"] : [];

  scenario(`${route}: connect ends on a signal with its status, and the peer is told at once`, {
    needs,
  }, async (env) => {
    const pair = await makePair(env, route, silence);
    for (const [signal, status] of [["SIGTERM", 143], ["SIGINT", 130], ["SIGHUP", 129]] as const) {
      const dialer = await served(env, pair);
      const started = performance.now();
      dialer.kill(signal);
      const { code, stderr } = await dialer.ended;
      assert.deepEqual([code, stderr], [status, ""]); // who has sent it knows
      await env.until("git-annex's side to be closed", () => pair.fakeAnnex.open === 0);
      assert((performance.now() - started) < 5_000);
    }
  });

  scenario(`${route}: connect ends soon after the peer has closed`, { needs }, async (env) => {
    const pair = await makePair(env, route, async (connection) => {
      await silence(connection);
      closed = performance.now();
    });
    let closed = 0;
    const times: number[] = [];
    for (let i = 0; i < 5; i++) {
      const run = await (await pair.connect({ stdin: "hello\n" })).ended;
      times.push(performance.now() - closed);
      assert.equal(run.code, 0);
    }
    // endpoint.close() alone would take more than a second each time. The median: in one run of the
    // five, or two, other tests may have both processors.
    assert(times.toSorted((a, b) => a - b)[2]! < 700, `${times} ms`);
  });
}

scenario(
  "connect reports a wrong setting, with its key and what would be right",
  {},
  async (env) => {
    const on = await env.host("a");
    const cwd = await makeRepository(env, on, "repository");
    const settings: [key: string, value: string, says: RegExp][] = [
      [
        "relay",
        "sometimes",
        /the setting p2p-iroh.relay is "sometimes"; it must be n0, none, or URLs/,
      ],
      ["lookup", "maybe", /the setting p2p-iroh.lookup is "maybe"; it must be n0 or none/],
      ["bind", "everywhere", /the setting p2p-iroh.bind is "everywhere"; it must be ADDRESS:PORT/],
      [
        "max-connections",
        "many",
        /the setting p2p-iroh.max-connections is "many"; it must be a number/,
      ],
    ];
    const env_ = { GIT_ANNEX_P2P_IROH_LOOKUP: "none", GIT_ANNEX_P2P_IROH_RELAY: "none" };
    for (const [key, value, says] of settings) {
      await env.ok(["git", "config", `p2p-iroh.${key}`, value], { on, cwd });
      // The environment goes first, so that a test is safe from its own settings; not here.
      const script =
        `unset GIT_ANNEX_P2P_IROH_RELAY GIT_ANNEX_P2P_IROH_LOOKUP; exec git-annex-p2p-iroh`;
      for (const args of ["address", unknown]) {
        const run = await env.run(["sh", "-c", `${script} ${args}`], { on, cwd, stdin: "" });
        assert.equal(run.code, 1);
        assertOneLine(run.stderr);
        assert.match(run.stderr, says);
      }
      await env.ok(["git", "config", "--unset", `p2p-iroh.${key}`], { on, cwd });
    }
    const run = await env.iroh(["address"], {
      on,
      cwd,
      env: { ...env_, GIT_ANNEX_P2P_IROH_BIND: "x" },
    });
    assert.match(run.stderr, /the setting GIT_ANNEX_P2P_IROH_BIND is "x"/);
  },
);

/** A setting, set anew in each place that goes before the one that was set last. */
async function inEachPlace(
  env: TestEnv,
  { on, cwd }: { on: Host; cwd: string },
  key: string,
  values: readonly [user: string, repository: string, environment: string],
  look: (value: string, start: (args: string[]) => Promise<Run>) => Promise<void>,
): Promise<void> {
  const variable = `GIT_ANNEX_P2P_IROH_${key.toUpperCase()}`;
  // Tests set some for the program, which are not to be in the way.
  const environments = [["-u", variable], ["-u", variable], [`${variable}=${values[2]}`]];
  for (const [i, value] of values.entries()) {
    const scope = ["--global", "--local"][i];
    if (scope) await env.ok(["git", "config", scope, `p2p-iroh.${key}`, value], { on, cwd });
    await look(value, (args) => {
      const command = ["env", ...environments[i]!, "git-annex-p2p-iroh", ...args];
      return env.run(command, { on, cwd, stdin: "" });
    });
  }
}

scenario(
  "settings: the user's count, the repository's before them, and the environment before both",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo), on = pair.network.b;
    const cwd = await makeRepository(env, on, "repository");
    await inEachPlace(
      env,
      { on, cwd },
      "relay",
      ["https://user.example/", "https://repository.example/", "https://environment.example/"],
      async (value, start) => {
        const { code, stdout } = await start(["address"]);
        assert.equal(code, 0);
        assert.deepEqual(decodeTicket(stdout.trim()).relays, [value]);
        // What an address holds stays in it: the next one is made from the start.
        await Deno.remove(join(cwd, ".git/annex/creds"), { recursive: true });
      },
    );
    await inEachPlace(
      env,
      { on, cwd },
      "bind",
      ["192.0.2.1:7", "192.0.2.2:7", "192.0.2.3:7"], // none is this host's
      async (value, start) => {
        const { stderr } = await start([pair.dialed]);
        assertOneLine(stderr);
        assert.match(stderr, new RegExp(`cannot open a UDP socket on ${value.replace(/7$/, "0")}`));
      },
    );
  },
);

scenario("settings: what git config says is where the listener listens", {}, async (env) => {
  const { a, b } = await makeLoopback(env), port = freePort();
  const cwd = await makeRepository(env, a, "repository");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  await env.ok(["git", "config", "p2p-iroh.bind", `127.0.0.1:${port}`], { on: a, cwd });
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
  const listener = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], { on: a, cwd });
  await listener.says(/serving endpoint/);
  const at = addressAt(address, `127.0.0.1:${port}`);
  const run = await env.iroh([at], { on: b, stdin: "hello\n" });
  assert.deepEqual([run.code, run.stdout, run.stderr], [0, `${AUTH_SUCCESS}hello\n`, ""]);
});

/** A peer on a wire of this name, in the test itself, and what to dial. */
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
    `connect tells a stream that is given up from a lost peer, on ${alpn}`,
    {},
    async (env) => {
      const { peer, dialed } = await makePeer(env, alpn);
      const dialer = await env.start(["git-annex-p2p-iroh", dialed], {
        stdin: "open",
        env: { GIT_ANNEX_P2P_IROH_LANE: `${alpn === MUX_ALPN}` }, // without it is dumbpipe's protocol
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
      await writer.abort(); // and the connection stays
      // There is no session for this wire: each direction ends on its own, and stdin is the other.
      if (alpn === DUMBPIPE_ALPN) await dialer.end();
      const { code, stdout, stderr } = await dialer.ended;
      assert(performance.now() - started < 5_000); // a lost peer is waited for longer
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

scenario("connect says when the UDP socket cannot be had", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const run = await env.iroh([pair.dialed], {
    stdin: "",
    env: { GIT_ANNEX_P2P_IROH_BIND: "192.0.2.1:7" },
  });
  assert.equal(run.code, 1);
  assertOneLine(run.stderr);
  assert.match(run.stderr, /cannot open a UDP socket on 192\.0\.2\.1:0, .*; .*p2p-iroh\.bind/);
});
