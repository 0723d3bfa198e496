/** A second listener of a repository takes over from the first. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { exchange, traces } from "./lifecycle.ts";
import { pathOf } from "./pairing.ts";
import {
  AUTH_SUCCESS_BYTES,
  checksumOf,
  echo,
  makePair,
  randomBytes,
  ROUTES,
  toolsFor,
  writeAll,
} from "./pair.ts";
import { concat, scenario } from "./testenv.ts";
import { python } from "./tools.ts";

for (const route of ROUTES) {
  const needs = toolsFor(route);

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
    // The first has removed nothing of the second's, which may be writing a file at the moment.
    await env.until("its four files", async () => (await traces(pair)).length === 4);
  });
}

scenario(
  "serve that waits for its port stops on a signal, and when a newer listener takes over",
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

scenario("serve that was started with SIGHUP ignored, as by nohup, does not stop on SIGHUP", {
  needs: ["namespaces"],
}, async (env) => {
  const bind = { GIT_ANNEX_P2P_IROH_BIND: "127.0.0.1:17476" };
  const pair = await makePair(env, "loopback", echo, bind);
  const { a } = pair.network, go = join(a.dir, "go"), slow = join(a.dir, "slow");
  await Deno.mkdir(slow);
  // It is a slow machine, on which the program begins to listen for signals late.
  const script = `until test -e ${go}; do sleep 0.05; done\nexec ${await pathOf("git")} "$@"`;
  await Deno.writeTextFile(join(slow, "git"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const command = ["nohup", "git-annex-p2p-iroh", pair.address, pair.fakeAnnex.path];
  const second = await env.start(command, {
    on: a,
    cwd: pair.repository,
    env: { ...bind, GIT_ANNEX_P2P_IROH_LOG: "debug", PATH: `${slow}:${a.env.PATH}` },
  });
  const begin = performance.now();
  await env.until(
    "Deno to take over SIGHUP, which it does after half a second if at all",
    async () => {
      const status = await Deno.readTextFile(`/proc/${second.pid}/status`);
      return /^SigCgt:.*[13579bdf]$/m.test(status) || performance.now() - begin > 2_000;
    },
  );
  await Deno.writeTextFile(go, "");
  await second.says(/serving endpoint/);
  await pair.listener.ended;
  await exchange(pair);
  second.kill("SIGHUP");
  await exchange(pair);
  assert.equal(second.code, undefined);
});

scenario(
  "serve finishes its sessions when a second listener takes over",
  {},
  async (env) => {
    const sent: Uint8Array[] = [];
    let hasTakenOver = false;
    const pair = await makePair(env, "loopback", async (connection) => {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      const send = (length: number) =>
        writeAll(connection, sent[sent.push(randomBytes(length)) - 1]!);
      // A session that pauses for a second is over for a listener that stops.
      while (!hasTakenOver) {
        await send(100_000);
        await new Promise((resolve) => setTimeout(resolve, 20)); // as a slow disk
      }
      await send(4_000_000);
    });
    const dialer = await pair.connect({ stdin: "open" });
    await dialer.says(/AUTH-SUCCESS/);
    await (await pair.listen()).says(/serving endpoint/);
    await pair.listener.says(/stopping, a newer listener took over/);
    hasTakenOver = true;
    const { code, stdoutBytes } = await dialer.ended;
    assert.equal(code, 0);
    assert.equal(
      await checksumOf(stdoutBytes.subarray(AUTH_SUCCESS_BYTES.length)),
      await checksumOf(concat(sent)),
    );
    assert.equal((await pair.listener.ended).code, 0);
  },
);
