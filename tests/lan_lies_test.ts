/** Wrong and malformed packets on the local network keep no peer from another. */

import assert from "node:assert/strict";
import {
  assertEchoed,
  datagramsReceived,
  instanceOf,
  LAN_TOOLS,
  lieFromMany,
  listenToMulticast,
  makeNeighbours,
} from "./lan.ts";
import { AUTH_SUCCESS, listenerPort, makeRepository, unknownAddress } from "./pair.ts";
import { memoryOf, scenario } from "./testenv.ts";
import { python } from "./tools.ts";

const needs = LAN_TOOLS;

scenario("lan: wrong answers cost a dialer no more than an unanswered packet each", {
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { a, address, dial } = await makeNeighbours(env);
  const port = await listenerPort(a, address);
  const liar = await env.start(python("mdns_liar.py", instanceOf(address), `${port}`), { on: a });
  await liar.says(/lying/);
  // All wrong answers are about the key that the dialer looks for, before and after the right answer:
  // wrong ports, hosts that do not exist, and addresses of other networks.
  let heard = 0; // by those dials that were not over before
  for (let i = 0; i < 5 || heard === 0; i++) {
    const started = performance.now();
    const dialer = await dial({ env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
    const { code, stdout, stderr } = await dialer.ended;
    assert.deepEqual([code, stdout], [0, `${AUTH_SUCCESS}hello\n`]);
    if (/says it is at 10\.77\.0\.1:9,/.test(stderr)) heard++;
    assert.doesNotMatch(stderr, /192\.0\.2\.1|127\.0\.0\.1|\b224\.\d+\.\d/);
    assert(performance.now() - started < 5_000, `${performance.now() - started} ms`);
  }
  assert.equal(liar.code, undefined);
});

scenario("lan: a dialer reaches the right endpoint although an answer names another one", {
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { a, address, fakeAnnex, dial } = await makeNeighbours(env);
  const cwd = await makeRepository(env, a, "another");
  const otherAddress = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
  const another = await env.start(["git-annex-p2p-iroh", otherAddress, fakeAnnex.path], {
    on: a,
    cwd,
  });
  await another.says(/serving endpoint/);
  const wrong = `${await listenerPort(a, otherAddress)}`;
  const liar = await env.start(python("mdns_liar.py", instanceOf(address), "9", wrong), { on: a });
  await liar.says(/lying/);
  let apart = 0;
  // Dials in which the right answer came first do not count.
  while (apart < 2) {
    const dialer = await dial({ env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
    const { code, stdout, stderr } = await dialer.ended;
    assert.deepEqual([code, stdout], [0, `${AUTH_SUCCESS}hello\n`]);
    if (/trying each route by itself/.test(stderr)) apart++;
  }
});

/** Number of senders, wrong answers of each, and whether another endpoint is at one of the addresses. */
const CROWDS = [
  { senders: 40, lies: 1, answered: false },
  { senders: 40, lies: 8, answered: false },
  { senders: 40, lies: 1, answered: true },
  { senders: 60, lies: 8, answered: true },
];
for (const { senders, lies, answered } of CROWDS) {
  const name =
    `lan: a dialer reaches its peer despite ${lies} wrong ${lies === 1 ? "answer" : "answers"} ` +
    `from each of ${senders} senders${answered ? ", and another endpoint at one address" : ""}`;
  scenario(name, { needs, limitMs: 120_000 }, async (env) => {
    const { a, third, address, fakeAnnex, dial } = await makeNeighbours(env);
    const cwd = await makeRepository(env, a, "another");
    const otherAddress = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
    const another = await env.start(["git-annex-p2p-iroh", otherAddress, fakeAnnex.path], {
      on: a,
      cwd,
    });
    await another.says(/serving endpoint/);
    const wrong = answered ? `10.77.0.1:${await listenerPort(a, otherAddress)}` : "";
    const crowd = await lieFromMany(env, third, address, { senders, lies, wrong });
    // Dials in which the right answer came first do not count.
    for (let lied = 0; lied < 4;) {
      const started = performance.now();
      const dialer = await dial({ env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
      const { code, stdout, stderr } = await dialer.ended;
      assert.deepEqual([code, stdout], [0, `${AUTH_SUCCESS}hello\n`]);
      assert(performance.now() - started < 10_000, `${performance.now() - started} ms`);
      const liars = new Set(stderr.match(/10\.77\.0\.[12]\d\d(?= says it is at)/g));
      if (liars.size > 32) lied++;
    }
    assert.equal(crowd.code, undefined);
  });
}

/** Maximum memory that a flood of 10,000 packets may leave behind. */
const MAX_GROWTH_MIB = 20;

scenario(
  "lan: malformed, oversized and countless packets neither stop a listener nor fill its memory",
  {
    needs: [...needs, "proc"],
    limitMs: 120_000,
  },
  async (env) => {
    const { a, b, dial, listener } = await makeNeighbours(env);
    const flood = async () => {
      const receivedBefore = await datagramsReceived(env, a);
      const started = await env.start(python("mdns_flood.py"), { on: b });
      const dials = (async () => {
        for (let i = 0; i < 5; i++) assertEchoed(await (await dial()).ended);
      })();
      await started.says(/half/);
      await dials;
      assert.equal((await started.ended).code, 0);
      assertEchoed(await (await dial()).ended);
      const ear = await listenToMulticast(env, b);
      await env.ok(python("mdns_ask.py"), { on: b });
      await ear.says(/response from 10\.77\.0\.1 /);
      assert.equal(listener.code, undefined);
      const received = await datagramsReceived(env, a) - receivedBefore;
      assert(received > 9_000, `${received} packets came`);
      return await memoryOf(listener.pid);
    };
    // V8 collects garbage late on a busy machine, and keeps the room for it. A leak grows in each flood.
    const grown: number[] = [];
    let before = await flood();
    while (grown.length < 3 && grown.every((growth) => growth >= MAX_GROWTH_MIB)) {
      const now = await flood();
      grown.push(now - before);
      before = now;
    }
    assert(Math.min(...grown) < MAX_GROWTH_MIB, `${grown} MiB more`);
  },
);

scenario("lan: countless wrong answers do not fill a dialer's memory", {
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { b, third } = await makeNeighbours(env);
  const wanted = unknownAddress();
  const dialer = await env.start(["git-annex-p2p-iroh", wanted], {
    on: b,
    env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
  });
  await dialer.says(/dialing/);
  const before = await memoryOf(dialer.pid), receivedBefore = await datagramsReceived(env, b);
  // The senders repeat their 24,000 different answers until the test ends.
  const crowd = await lieFromMany(env, third, wanted, { senders: 120, lies: 200 });
  let most = 0;
  await env.until("the dialer to give up", async () => {
    most = Math.max(most, await memoryOf(dialer.pid).catch(() => 0)); // the dialer has ended
    return dialer.code !== undefined;
  });
  const received = await datagramsReceived(env, b) - receivedBefore;
  const { code, stderr } = await dialer.ended;
  assert.equal(code, 1);
  assert.match(stderr, /trying each route by itself/);
  assert.match(stderr, /tried the local network \(no answer within/);
  assert(received > 10_000, `${received} packets came`);
  // Enough for iroh and for a socket per address that is tried at once, but not for one per answer.
  assert(most - before < 200, `${most - before} MiB more`);
  assert.equal(crowd.code, undefined);
});
