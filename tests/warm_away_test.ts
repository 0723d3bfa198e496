/** A peer that does not answer is given up in time. */

import assert from "node:assert/strict";
import { makeFriends } from "./friends.ts";
import { scenario } from "./testenv.ts";
import { DIAL_MS, DIALING, dialsIn, exchange, fallSilent, unlessSlow } from "./warm.ts";

for (const others of [0, 1]) {
  scenario(
    `warm: a process gives up a peer that vanished within 30 s, with ${others} other sessions`,
    {
      waits: true,
      limitMs: 90_000,
    },
    async (env) => {
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
        /it no longer answers, and was dialed again: the peer is away, last seen [\d: -]+; tried /,
      );
      assert(took < 30_000, `${took} ms`);
    },
  );
}

scenario("warm: after a failed dial, the next dials of the same peer fail at once, until a ping", {
  waits: true,
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const { address, bind, silent } = await fallSilent(a);
  const fails = async () => {
    const { code, stderr, took } = await unlessSlow(async () => {
      const begin = performance.now();
      const run = await (await b.connect(address, { stdin: "x" })).ended;
      return { ...run, took: performance.now() - begin };
    });
    assert.equal(code, 1);
    assert.doesNotMatch(stderr, DIALING);
    const reason = /: (cannot reach the peer; tried .*)\n$/.exec(stderr)?.[1];
    assert(reason, stderr);
    return { reason, took };
  };
  const dials = () => dialsIn(b.listener.stderr);
  const { reason } = await fails(), before = dials();
  assert(before > 0);
  const next = await fails();
  assert.equal(next.reason, reason);
  assert.equal(dials(), before);
  assert(next.took < DIAL_MS, `${next.took} ms`); // nor does it wait
  silent.close();
  a.listener = await a.listen({ env: { GIT_ANNEX_P2P_IROH_BIND: bind } });
  await env.ok(["git-annex-p2p-iroh", "ping", address, "-n", "1"], {
    on: b.host,
    cwd: b.repository,
  });
  assert.equal((await exchange(b, address)).isWarm, true);
});
