/** A listener stops when it is told to, or when git-annex no longer needs it. */

import assert from "node:assert/strict";
import { listenUnder, traces } from "./lifecycle.ts";
import {
  AUTH_SUCCESS_BYTES,
  checksumOf,
  echo,
  makePair,
  randomBytes,
  ROUTES,
  silence,
  toolsFor,
  writeAll,
} from "./pair.ts";
import { concat, scenario } from "./testenv.ts";

for (const route of ROUTES) {
  const needs = toolsFor(route);

  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    scenario(
      `${route}: serve stops on ${signal}, tells its peers, and leaves nothing behind`,
      { needs },
      async (env) => {
        const pair = await makePair(env, route, silence);
        const dialer = await pair.connect({ stdin: "open" });
        await dialer.says(/AUTH-SUCCESS/);
        await env.until("its four files", async () => (await traces(pair)).length === 4);
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
  "serve finishes its sessions when it is told to stop",
  { limitMs: 90_000 },
  async (env) => {
    const sent: Uint8Array[] = [];
    let isLateRefused = false;
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      while (!isLateRefused) {
        sent.push(randomBytes(500_000));
        await writeAll(connection, sent.at(-1)!);
        await new Promise((resolve) => setTimeout(resolve, 50)); // as a slow disk
      }
    });
    const dialer = await pair.connect({ stdin: "open" });
    await dialer.says(/AUTH-SUCCESS/);
    pair.listener.kill("SIGTERM");
    await pair.listener.says(/stopping/);
    const late = await (await pair.connect({ stdin: "hello\n" })).ended;
    assert.equal(late.code, 1);
    assert.match(late.stderr, /takes no more connections now/);
    isLateRefused = true;
    const { code, stdoutBytes } = await dialer.ended;
    assert.equal(code, 0);
    assert.equal(
      await checksumOf(stdoutBytes.subarray(AUTH_SUCCESS_BYTES.length)),
      await checksumOf(concat(sent)),
    );
    assert.equal((await pair.listener.ended).code, 0);
    assert.match(await pair.log(), /stopping, [^]*was served after/);
  },
);

scenario(
  "serve that is told to stop still sends what it has read from git-annex",
  {},
  async (env) => {
    const data = randomBytes(4_000_000); // less than the listener reads ahead
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      await writeAll(connection, data);
    });
    const dialer = await pair.connect({ stdin: "open", collect: false });
    const received: Uint8Array[] = [];
    for await (const chunk of dialer.stdoutReader) {
      if (received.length === 0) pair.listener.kill("SIGTERM");
      received.push(chunk);
      // As a peer with a slow disk, for a small part of the time that the listener leaves.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.equal(
      await checksumOf(concat(received).subarray(AUTH_SUCCESS_BYTES.length)),
      await checksumOf(data),
    );
    assert.equal((await dialer.ended).code, 0);
  },
);

scenario("serve ends at once on a second signal", {}, async (env) => {
  const pair = await makePair(env, "loopback", async (connection) => {
    await writeAll(connection, AUTH_SUCCESS_BYTES);
    for (const chunk = new Uint8Array(10_000);;) await writeAll(connection, chunk); // never ends
  });
  const dialer = await pair.connect({ stdin: "open" });
  await dialer.says(/AUTH-SUCCESS/);
  pair.listener.kill("SIGTERM");
  await pair.listener.says(/stopping/);
  pair.listener.kill("SIGTERM");
  assert.equal((await pair.listener.ended).code, 143);
});

for (const route of ROUTES) {
  const needs = toolsFor(route);

  scenario(`${route}: serve stops when its parent is killed`, { needs }, async (env) => {
    const pair = await makePair(env, route, echo);
    const { parent } = await listenUnder(env, pair);
    await pair.listener.ended; // the second listener has taken over
    parent.kill("SIGKILL");
    const { stderr } = await parent.ended; // the listener holds its stderr until it ends
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

scenario(
  "serve stops although git-annex does not read what a peer sends",
  { waits: true, limitMs: 90_000 },
  async (env) => {
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      await new Promise(() => {}); // never reads
    });
    const dialer = await pair.connect({ stdin: randomBytes(8_000_000) });
    await dialer.says(/AUTH-SUCCESS/);
    pair.listener.kill("SIGTERM");
    assert.equal((await pair.listener.ended).code, 0);
    assert.equal((await dialer.ended).code, 1);
  },
);
