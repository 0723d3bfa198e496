/** What becomes of a session when one of the processes that carry it ends. */

import assert from "node:assert/strict";
import { makeFriends } from "./friends.ts";
import { scenario } from "./testenv.ts";
import { answered, exchange } from "./warm.ts";

scenario(
  "warm: if the listener is killed in mid-stream, the process reports a lost peer",
  {},
  async (env) => {
    const [a, b] = await makeFriends(env);
    const process = await b.connect(await a.at(), { stdin: "open" });
    await process.says(/AUTH-SUCCESS/);
    b.listener.kill("SIGKILL");
    const { code, stderr } = await process.ended;
    assert.equal(code, 1);
    assert.match(
      stderr,
      /: the peer is lost in mid-stream, this repository's listener has ended; try/,
    );
  },
);

scenario("warm: if a process is killed, the peer notices at once", {}, async (env) => {
  const [a, b] = await makeFriends(env);
  const process = await b.connect(await a.at(), { stdin: "open" });
  await process.says(/AUTH-SUCCESS/);
  process.kill("SIGKILL");
  await env.until("git-annex there to be told", () => a.fakeAnnex.open === 0);
  assert.equal((await exchange(b, await a.at())).isWarm, true);
});

scenario("warm: a listener that stops lets its sessions end", {}, async (env) => {
  const [a, b] = await makeFriends(env);
  const process = await b.connect(await a.at(), { stdin: "open" });
  await process.says(/AUTH-SUCCESS/);
  let sent = "";
  b.listener.kill("SIGTERM");
  await b.listener.says(/stopping/);
  for (let i = 0; i < 20; i++) { // enough that the listener does not take the session for idle
    const text = "x".repeat(20_000);
    await process.write(text);
    sent += text;
    await env.until("it to be there", () => process.stdout.length === answered(sent).length);
  }
  await process.end();
  assert.equal((await process.ended).code, 0);
  assert.equal((await b.listener.ended).code, 0);
});

scenario("warm: the next process reaches a peer whose listener was restarted", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  assert.equal((await exchange(b, await a.at())).isWarm, true);
  // If the listener is killed, the kept connection leads nowhere, and its other end is not told.
  a.listener.kill("SIGKILL");
  await a.listener.ended;
  a.listener = await a.listen();
  const begin = performance.now();
  assert.equal((await exchange(b, await a.at())).isWarm, true);
  const took = performance.now() - begin;
  assert(took < 10_000, `${took} ms`); // iroh itself would notice after 25 s
  // The same if the restarted side connects.
  a.listener.kill("SIGKILL");
  await a.listener.ended;
  a.listener = await a.listen();
  assert.equal((await exchange(a, await b.at())).isWarm, true);
  assert.equal((await exchange(b, await a.at())).isWarm, true);
  // If the listener stops in an orderly way, it tells its peers.
  a.listener.kill("SIGTERM");
  await a.listener.ended;
  a.listener = await a.listen();
  assert.equal((await exchange(b, await a.at())).isWarm, true);
});
