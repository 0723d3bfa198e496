/** The listener's end: told to, or by itself, as soon as git-annex no longer needs it. */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  AUTH_SUCCESS,
  checksumOf,
  echo,
  makePair,
  type Pair,
  randomBytes,
  ROUTES,
  silence,
  writeAll,
} from "./pair.ts";
import { concat, scenario, type Started, type TestEnv, type Tool } from "./testenv.ts";
import { python } from "./tools.ts";

const authSuccess = new TextEncoder().encode(AUTH_SUCCESS);

/** What a listener keeps while it runs. */
async function traces(pair: Pair): Promise<string[]> {
  const entries = Deno.readDir(join(pair.network.a.env.XDG_RUNTIME_DIR!, "git-annex-p2p-iroh"));
  const signature = join(pair.repository, ".git/annex/p2p-iroh/listener");
  const signed = await Deno.readTextFile(signature).then(() => ["listener"], () => []);
  return [...(await Array.fromAsync(entries)).map(({ name }) => name), ...signed];
}

async function exchange(pair: Pair): Promise<void> {
  const run = await (await pair.connect({ stdin: "hello\n" })).ended;
  assert.deepEqual([run.code, run.stdout, run.stderr], [0, `${AUTH_SUCCESS}hello\n`, ""]);
}

/** A listener whose parent is a process that can be killed. */
async function listenUnder(env: TestEnv, pair: Pair): Promise<{ parent: Started; pid: number }> {
  const script = `git-annex-p2p-iroh ${pair.address} ${pair.fakeAnnex.path} & echo pid $!; wait`;
  const parent = await env.start(["sh", "-c", script], {
    on: pair.network.a,
    cwd: pair.repository,
    env: pair.relay ? { GIT_ANNEX_P2P_IROH_RELAY: pair.relay.url } : {},
  });
  const pid = Number(/\d+/.exec(await parent.says(/pid \d+/))![0]);
  await parent.says(/serving endpoint/);
  return { parent, pid };
}

for (const route of ROUTES) {
  const needs: Tool[] = route === "relay" ? ["iroh-relay"] : [];

  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    scenario(
      `${route}: serve stops on ${signal}, tells its peers, and leaves nothing behind`,
      { needs },
      async (env) => {
        const pair = await makePair(env, route, silence);
        const dialer = await pair.connect({ stdin: "open" });
        await dialer.says(/AUTH-SUCCESS/);
        assert.equal((await traces(pair)).length, 4);
        pair.listener.kill(signal);
        assert.equal((await pair.listener.ended).code, 0);
        assert.match(
          await pair.log(),
          new RegExp(`stopping, ended by ${signal}\n.*\n?.*stopped\n$`),
        );
        assert.deepEqual(await traces(pair), []);
        const { code, stderr } = await dialer.ended;
        assert.equal(code, 1);
        assert.match(
          stderr,
          /^git-annex-p2p-iroh: the peer ended the connection: stopped \(code 3\)/,
        );
      },
    );
  }
}

scenario(
  "serve lets what is in progress finish when it is told to stop",
  { limitMs: 90_000 },
  async (env) => {
    const data = randomBytes(5_000_000);
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, authSuccess);
      await writeAll(connection, data);
    });
    const dialer = await pair.connect({ stdin: "open" });
    await dialer.says(/AUTH-SUCCESS/);
    pair.listener.kill("SIGTERM");
    await pair.listener.says(/stopping/);
    const late = await (await pair.connect({ stdin: "hello\n" })).ended; // no one more is let in
    assert.equal(late.code, 1);
    assert.match(late.stderr, /takes no more connections now/);
    const { code, stdoutBytes } = await dialer.ended;
    assert.equal(code, 0);
    assert.equal(
      await checksumOf(stdoutBytes.subarray(authSuccess.length)),
      await checksumOf(data),
    );
    assert.equal((await pair.listener.ended).code, 0);
    assert.match(await pair.log(), /stopping, [^]*was served after/);
  },
);

scenario(
  "serve, told to stop, goes on to send what it has read from git-annex",
  {},
  async (env) => {
    const data = randomBytes(4_000_000); // fits into what is read ahead
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, authSuccess);
      await writeAll(connection, data);
    });
    const dialer = await pair.connect({ stdin: "open", collect: false });
    const received: Uint8Array[] = [];
    for await (const chunk of dialer.stdoutReader) {
      if (received.length === 0) pair.listener.kill("SIGTERM");
      received.push(chunk);
      await new Promise((resolve) => setTimeout(resolve, 50)); // a peer with a slow disk
    }
    assert.equal(
      await checksumOf(concat(received).subarray(authSuccess.length)),
      await checksumOf(data),
    );
    assert.equal((await dialer.ended).code, 0);
  },
);

scenario("serve ends at once on a second signal", {}, async (env) => {
  const pair = await makePair(env, "loopback", async (connection) => {
    await writeAll(connection, authSuccess);
    for (const chunk = new Uint8Array(10_000);;) await writeAll(connection, chunk); // never finishes
  });
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  pair.listener.kill("SIGTERM");
  await pair.listener.says(/stopping/);
  pair.listener.kill("SIGTERM");
  assert.equal((await pair.listener.ended).code, 143);
});

for (const route of ROUTES) {
  const needs: Tool[] = route === "relay" ? ["iroh-relay"] : [];

  scenario(`${route}: serve stops when its parent is killed`, { needs }, async (env) => {
    const pair = await makePair(env, route, echo);
    const { parent } = await listenUnder(env, pair);
    await pair.listener.ended; // the second took over
    parent.kill("SIGKILL");
    const { stderr } = await parent.ended; // which ends when the listener has closed it
    assert.match(stderr, /stopping, the process that started it is gone\n.*stopped\n$/);
    assert.deepEqual(await traces(pair), []);
  });
}

scenario("serve stops when the socket file is gone", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  pair.fakeAnnex.close();
  assert.equal((await pair.listener.ended).code, 0);
  assert.match(await pair.log(), /stopping, git-annex's socket file is gone/);
  assert.deepEqual(await traces(pair), []);
});

for (const route of ROUTES) {
  const needs: Tool[] = route === "relay" ? ["iroh-relay"] : [];

  scenario(`${route}: a second listener takes over from the first`, {
    needs,
  }, async (env) => {
    const bind = { GIT_ANNEX_P2P_IROH_BIND: "0.0.0.0:17474" };
    const pair = await makePair(env, route, echo, route === "direct" ? bind : {});
    await exchange(pair);
    const second = await pair.listen();
    assert.equal((await pair.listener.ended).code, 0);
    assert.match(pair.listener.stderr, /stopping, a newer listener took over/);
    await second.says(/serving endpoint/);
    if (pair.relay) await second.says(/reachable through relay/);
    await exchange(pair);
    assert.equal(second.code, undefined);
    assert.equal((await traces(pair)).length, 4); // the first has taken nothing of the second's away
  });
}

scenario(
  "serve that waits for its port is told to stop, or is no longer wanted",
  {},
  async (env) => {
    const bind = { GIT_ANNEX_P2P_IROH_BIND: "127.0.0.1:17475" };
    const pair = await makePair(env, "loopback", echo);
    await (await env.start(python("hold_udp_port.py", "17475"))).says(/held/);
    const first = await pair.listen({ env: { ...bind, GIT_ANNEX_P2P_IROH_LOG: "debug" } });
    await first.says(/cannot open a UDP socket/);
    const second = await pair.listen({ env: { ...bind, GIT_ANNEX_P2P_IROH_LOG: "debug" } });
    assert.equal((await first.ended).code, 0);
    assert.match(first.stderr, /git-annex-p2p-iroh: stopping, a newer listener took over\n/);
    await second.says(/cannot open a UDP socket/);
    second.kill("SIGTERM");
    assert.equal((await second.ended).code, 0);
    assert.match(second.stderr, /git-annex-p2p-iroh: stopping, ended by SIGTERM\n/);
  },
);

scenario("serve started with SIGHUP ignored, as by nohup, goes on when the terminal is gone", {
  needs: ["namespaces"],
}, async (env) => {
  const bind = { GIT_ANNEX_P2P_IROH_BIND: "127.0.0.1:17476" };
  const pair = await makePair(env, "loopback", echo, bind);
  const command = ["nohup", "git-annex-p2p-iroh", pair.address, pair.fakeAnnex.path];
  const second = await env.start(command, {
    on: pair.network.a,
    cwd: pair.repository,
    env: { ...bind, GIT_ANNEX_P2P_IROH_LOG: "debug" },
  });
  await second.says(/serving endpoint/);
  await pair.listener.ended;
  await exchange(pair);
  second.kill("SIGHUP");
  await exchange(pair);
  assert.equal(second.code, undefined);
});

scenario(
  "serve finishes what is in progress when a second listener takes over",
  {},
  async (env) => {
    const data = randomBytes(5_000_000);
    const go = Promise.withResolvers<void>();
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, authSuccess);
      await writeAll(connection, data.subarray(0, 1_000_000));
      await go.promise;
      await writeAll(connection, data.subarray(1_000_000));
    });
    const dialer = await pair.connect({ stdin: "open" });
    await dialer.says(/AUTH-SUCCESS/);
    await (await pair.listen()).says(/serving endpoint/);
    await pair.listener.says(/stopping, a newer listener took over/);
    go.resolve();
    const { code, stdoutBytes } = await dialer.ended;
    assert.equal(code, 0);
    assert.equal(
      await checksumOf(stdoutBytes.subarray(authSuccess.length)),
      await checksumOf(data),
    );
    assert.equal((await pair.listener.ended).code, 0);
  },
);

scenario("serve is reachable again when its relay comes back", {
  needs: ["iroh-relay"],
  limitMs: 120_000,
}, async (env) => {
  const pair = await makePair(env, "relay", echo);
  await exchange(pair);
  await pair.relay!.stop();
  const down = await (await pair.connect({ stdin: "hello\n" })).ended;
  assert.equal(down.code, 1);
  assert.match(down.stderr, /cannot reach the peer; tried relay http/);
  await pair.relay!.start();
  await env.until("the peer to be reachable again", async () => {
    return (await (await pair.connect({ stdin: "hello\n" })).ended).code === 0;
  });
  await exchange(pair);
  assert.equal(pair.listener.code, undefined);
});

scenario("serve uses a relay that was away when it started", {
  needs: ["iroh-relay"],
  limitMs: 120_000,
}, async (env) => {
  const pair = await makePair(env, "relay", echo);
  await pair.relay!.stop();
  const second = await pair.listen();
  await pair.listener.ended;
  await second.says(/serving endpoint/);
  await pair.relay!.start();
  await second.says(/reachable through relay/);
  await exchange(pair);
});

scenario("direct: serve is reachable again when the network was away", {
  needs: ["namespaces"],
  limitMs: 120_000,
}, async (env) => {
  const pair = await makePair(env, "direct", echo);
  await exchange(pair);
  const on = pair.network.a;
  await env.ok(["ip", "link", "set", "eth0", "down"], { on });
  assert.equal((await (await pair.connect({ stdin: "hello\n" })).ended).code, 1);
  await env.ok(["ip", "link", "set", "eth0", "up"], { on });
  await env.until("the peer to be reachable again", async () => {
    return (await (await pair.connect({ stdin: "hello\n" })).ended).code === 0;
  });
  assert.equal(pair.listener.code, undefined);
});

scenario(
  "serve stops although git-annex does not read, and when a stranger has filled its socket",
  {
    limitMs: 90_000,
  },
  async (env) => {
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, authSuccess);
      await new Promise(() => {}); // reads nothing, ever
    });
    const dialer = await pair.connect({ stdin: randomBytes(8_000_000) });
    await dialer.says(/AUTH-SUCCESS/);
    pair.listener.kill("SIGTERM");
    assert.equal((await pair.listener.ended).code, 0);
    assert.equal((await dialer.ended).code, 1);
  },
);

scenario("serve goes on while git-annex's queue is full", { limitMs: 90_000 }, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  // A queue of one that nobody takes anything from, in the place of git-annex's.
  const full = await env.start(python("full_socket.py", `${pair.fakeAnnex.path}-full`));
  await full.says(/full/);
  const real = `${pair.fakeAnnex.path}-real`;
  await Deno.rename(pair.fakeAnnex.path, real);
  await Deno.rename(`${pair.fakeAnnex.path}-full`, pair.fakeAnnex.path);
  const { code, stderr } = await (await pair.connect({ stdin: "" })).ended;
  assert.equal(code, 1);
  assert.match(stderr, /the peer ended the connection: too many connections \(code 1\)/);
  await Deno.rename(real, pair.fakeAnnex.path);
  await exchange(pair);
  assert.equal(pair.listener.code, undefined);
});
