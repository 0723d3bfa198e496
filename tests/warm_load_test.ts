/** Many processes at once go through one listener. */

import assert from "node:assert/strict";
import { requestStatus } from "../lib/control/client.ts";
import type { ListenerStatus } from "../lib/listener/snapshot.ts";
import { Session } from "../lib/protocol/session.ts";
import { makeFriends } from "./friends.ts";
import { scenario } from "./testenv.ts";
import { answered, locatorOf, openSession } from "./warm.ts";

scenario("warm: one listener carries 100 sessions at once", {
  limitMs: 90_000,
  takesTurns: true,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at(), locator = locatorOf(b);
  const sessions = await Promise.all(Array.from({ length: 100 }, async (_, i) => {
    const proxied = await openSession(locator, address, env.signal);
    const session = new Session(proxied.stream, proxied.closedError);
    await session.writable.getWriter().write(new TextEncoder().encode(`number ${i}`));
    return { proxied, session };
  }));
  await env.until("all to be there at once", () => a.fakeAnnex.open === 100);
  await Promise.all(sessions.map(async ({ proxied, session }, i) => {
    const reader = session.readable.getReader(), right = answered(`number ${i}`);
    let said = "";
    while (said.length < right.length) {
      said += new TextDecoder().decode((await reader.read()).value);
    }
    assert.equal(said, right);
    proxied[Symbol.dispose]();
  }));
  await env.until("all to be gone", () => a.fakeAnnex.open === 0);
  assert.equal(a.fakeAnnex.total, 100);
});

scenario("warm: 30 processes at once go through one listener", {
  limitMs: 90_000,
  takesTurns: true,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at();
  await Promise.all(Array.from({ length: 30 }, async (_, i) => {
    const run = await (await b.connect(address, { stdin: `${i}` })).ended;
    assert.deepEqual([run.code, run.stdout], [0, answered(`${i}`)], run.stderr);
  }));
});

scenario(
  "warm: the listener answers status while 100 sessions open",
  { limitMs: 90_000 },
  async (env) => {
    const [a, b] = await makeFriends(env);
    const address = await a.at(), locator = locatorOf(b);
    const opening = Promise.all(
      Array.from({ length: 100 }, () => openSession(locator, address, env.signal)),
    );
    const count = async () => {
      const { peers } = await requestStatus(locator, env.signal) as ListenerStatus;
      return peers[0]?.sessions.outgoing ?? 0;
    };
    await count();
    const sessions = await opening;
    assert.equal(await count(), 100);
    for (const session of sessions) session[Symbol.dispose]();
    await env.until("all to be over", async () => await count() === 0);
  },
);
