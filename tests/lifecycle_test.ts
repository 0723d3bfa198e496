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
  silence,
  WAYS,
  writeAll,
} from "./pair.ts";
import { promise, type Started, type TestEnv, type Tool } from "./testenv.ts";

const letIn = new TextEncoder().encode(AUTH_SUCCESS);

/** What a listener keeps while it runs. */
async function traces(pair: Pair): Promise<string[]> {
  const entries = Deno.readDir(join(pair.network.a.env.XDG_RUNTIME_DIR!, "git-annex-p2p-iroh"));
  const signature = join(pair.repository, ".git/annex/p2p-iroh/listener");
  const signed = await Deno.readTextFile(signature).then(() => ["listener"], () => []);
  return [...(await Array.fromAsync(entries)).map(({ name }) => name), ...signed];
}

async function exchange(pair: Pair): Promise<void> {
  const run = await (await pair.connect({ stdin: "hello\n" })).ended;
  assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}hello\n`]);
}

/** A listener whose parent is a process that can be killed. */
async function listenUnder(env: TestEnv, pair: Pair): Promise<{ parent: Started; pid: number }> {
  const script = `git-annex-p2p-iroh ${pair.address} ${pair.service.path} & echo pid $!; wait`;
  const parent = await env.start(["sh", "-c", script], {
    on: pair.network.a,
    cwd: pair.repository,
  });
  const pid = Number(/\d+/.exec(await parent.says(/pid \d+/))![0]);
  await parent.says(/serving endpoint/);
  return { parent, pid };
}

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
  promise(
    `serve stops on ${signal}, tells its peers, and leaves nothing behind`,
    {},
    async (env) => {
      const pair = await makePair(env, "loopback", silence);
      const dialer = await pair.connect({ stdin: "open" });
      await dialer.says(/AUTH-SUCCESS/);
      assert.equal((await traces(pair)).length, 2);
      pair.listener.kill(signal);
      assert.equal((await pair.listener.ended).code, 0);
      assert.match(await pair.log(), new RegExp(`stopping, ended by ${signal}\n.*\n?.*stopped\n$`));
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

promise(
  "serve lets what is in progress finish when it is told to stop",
  { limitMs: 90_000 },
  async (env) => {
    const data = randomBytes(12_000_000);
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, letIn);
      await writeAll(connection, data);
    });
    const dialer = await pair.connect({ stdin: "open" });
    await dialer.says(/AUTH-SUCCESS/);
    pair.listener.kill("SIGTERM");
    await pair.listener.says(/stopping/);
    const late = await (await pair.connect({ stdin: "hello\n" })).ended; // no one more is let in
    assert.equal(late.code, 1);
    const { code, stdoutBytes } = await dialer.ended;
    assert.equal(code, 0);
    assert.equal(await checksumOf(stdoutBytes.subarray(letIn.length)), await checksumOf(data));
    assert.equal((await pair.listener.ended).code, 0);
  },
);

promise("serve ends at once on a second signal", {}, async (env) => {
  const pair = await makePair(env, "loopback", async (connection) => {
    await writeAll(connection, letIn);
    for (const chunk = new Uint8Array(10_000);;) await writeAll(connection, chunk); // never finishes
  });
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  pair.listener.kill("SIGTERM");
  await pair.listener.says(/stopping/);
  pair.listener.kill("SIGTERM");
  assert.equal((await pair.listener.ended).code, 143);
});

promise("serve stops when its parent is killed", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const { parent } = await listenUnder(env, pair);
  await pair.listener.ended; // the second took over
  parent.kill("SIGKILL");
  const { stderr } = await parent.ended; // which ends when the listener has closed it
  assert.match(stderr, /stopping, the process that started it is gone\n.*stopped\n$/);
  assert.deepEqual(await traces(pair), []);
});

promise("serve stops when the socket file is gone", {}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  pair.service.close();
  assert.equal((await pair.listener.ended).code, 0);
  assert.match(await pair.log(), /stopping, git-annex's socket file is gone/);
  assert.deepEqual(await traces(pair), []);
});

for (const way of WAYS) {
  const needs: Tool[] = way === "relay" ? ["iroh-relay"] : [];

  promise(`${way}: a second listener takes over from the first, for which peers see no gap`, {
    needs,
  }, async (env) => {
    const bind = { GIT_ANNEX_P2P_IROH_BIND: "0.0.0.0:47474" };
    const pair = await makePair(env, way, echo, way === "direct" ? bind : {});
    await exchange(pair);
    const second = await pair.listen();
    assert.equal((await pair.listener.ended).code, 0);
    assert.match(pair.listener.stderr, /stopping, a newer listener took over/);
    await second.says(/serving endpoint/);
    if (pair.relay) await second.says(/reachable through relay/);
    await exchange(pair);
    assert.equal(second.code, undefined);
    assert.equal((await traces(pair)).length, 2); // the first has taken nothing of the second's away
  });
}

promise("serve finishes what is in progress when a second listener takes over", {}, async (env) => {
  const data = randomBytes(8_000_000);
  const pair = await makePair(env, "loopback", async (connection) => {
    await writeAll(connection, letIn);
    await writeAll(connection, data);
  });
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  await (await pair.listen()).says(/serving endpoint/);
  const { code, stdoutBytes } = await dialer.ended;
  assert.equal(code, 0);
  assert.equal(await checksumOf(stdoutBytes.subarray(letIn.length)), await checksumOf(data));
  assert.equal((await pair.listener.ended).code, 0);
});

promise("serve is reachable again when its relay comes back", {
  needs: ["iroh-relay"],
  limitMs: 120_000,
}, async (env) => {
  const pair = await makePair(env, "relay", echo);
  await exchange(pair);
  await pair.relay!.stop();
  const down = await (await pair.connect({ stdin: "hello\n" })).ended;
  assert.equal(down.code, 1);
  assert.match(down.stderr, /cannot reach the peer, .*tried relay http/);
  await pair.relay!.start();
  await env.until("the peer to be reachable again", async () => {
    return (await (await pair.connect({ stdin: "hello\n" })).ended).code === 0;
  });
  await exchange(pair);
  assert.equal(pair.listener.code, undefined);
});

promise("serve uses a relay that was away when it started", {
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
