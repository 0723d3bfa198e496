/** A process connects by itself if the listener of its repository cannot do it. */

import assert from "node:assert/strict";
import { makeFriends } from "./friends.ts";
import { scenario, type StartOptions } from "./testenv.ts";
import { answered, controlFiles, exchange, locatorFileOf, THROUGH, unlessSlow } from "./warm.ts";

scenario("warm: a process connects by itself if the listener cannot or must not do it", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at();
  const isWarm = async (options?: StartOptions) => (await exchange(b, address, options)).isWarm;
  const setting = (key: string, value: string) => ({
    env: { [`GIT_ANNEX_P2P_IROH_${key}`]: value },
  });
  assert.equal(await isWarm(), true);
  assert.equal(await isWarm(setting("WARM", "false")), false);
  assert.equal(await isWarm(setting("LANE", "false")), false); // dumbpipe's protocol carries one stream
  assert.equal(await isWarm(setting("LAN", "true")), false); // the listener does not use it
  assert.equal(await isWarm({ cwd: b.host.dir }), false); // not in a repository
  b.listener.kill("SIGSTOP");
  const { code, stdout, stderr } = await (await b.connect(address, { stdin: "word" })).ended;
  assert.deepEqual([code, stdout], [0, answered("word")], stderr);
  assert.doesNotMatch(stderr, THROUGH);
  assert.match(stderr, /no answer within 200 ms/);
  b.listener.kill("SIGCONT");
  const { path, text } = await locatorFileOf(b);
  await Deno.writeTextFile(path, text.replace(/"version":"[^"]*"/, '"version":"9.9.9"'));
  assert.equal(await isWarm(), false);
  const another = (_: string, digit: string) => `"cookie":"${digit === "0" ? 1 : 0}`;
  await Deno.writeTextFile(path, text.replace(/"cookie":"(.)/, another));
  assert.equal(await isWarm(), false);
  await Deno.writeTextFile(path, "{");
  assert.equal(await isWarm(), false);
  await Deno.writeTextFile(path, text);
  assert.equal(await isWarm(), true);
  b.listener.kill("SIGKILL");
  await b.listener.ended;
  assert.equal(await isWarm(), false);
  // The next listener removes what the killed one has left.
  b.listener = await b.listen();
  assert.equal(await isWarm(), true);
  assert.equal((await controlFiles(b)).filter((name) => name.endsWith(".control")).length, 1);
  b.listener.kill("SIGTERM");
  await b.listener.ended;
  assert.deepEqual(await controlFiles(b), []);
  assert.equal(await isWarm(), false);
});

scenario("warm: a listener that is slow to answer is used if that is sooner", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const slow = async (address: string) => {
    b.listener.kill("SIGSTOP");
    const process = await b.connect(address, { stdin: "word" });
    await process.says(/no answer within 200 ms/);
    return process;
  };
  // The listener must dial. The attempt of the process ends meanwhile, which ends nothing else.
  const address = await a.at();
  a.listener.kill("SIGSTOP");
  const process = await slow(address);
  b.listener.kill("SIGCONT");
  await process.says(/not by itself: Error: the listener was sooner/);
  a.listener.kill("SIGCONT"); // a start may take longer than the dial waits
  const { code, stdout, stderr } = await process.ended;
  assert.deepEqual([code, stdout], [0, answered("word")], stderr);
  assert.match(stderr, THROUGH);
  assert.doesNotMatch(stderr, /not through the running listener/);
  await env.until("the log to tell of it", async () => / was served after /.test(await a.log()));

  // If the process cannot connect by itself, the listener may still answer.
  const failing = await slow(b.address);
  await failing.says(/not by itself: SelfDial/);
  b.listener.kill("SIGCONT");
  const failed = await failing.ended;
  assert.deepEqual([failed.code, failed.stdout], [1, ""]);
  assert.match(failed.stderr, THROUGH);
  assert.equal((await a.log()).match(/ was served after /g)!.length, 1);
});

scenario("warm: a process reports why its listener could not reach the peer", {
  waits: true,
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const fails = async (address: string, exitStatus = 1) => {
    const connect = async () => await (await b.connect(address, { stdin: "x" })).ended;
    const { code, stdout, stderr } = await unlessSlow(connect);
    assert.deepEqual([code, stdout], [exitStatus, ""]);
    assert.match(stderr, THROUGH);
    return stderr;
  };
  assert.match(await fails(b.address), /that is this repository's own address/);
  assert.match(await fails(a.address.slice(0, -3), 2), /address.* is damaged/);
  const address = await a.at();
  a.fakeAnnex.close();
  assert.match(
    await fails(address),
    /the peer ended the connection: git annex remotedaemon is not running \(code 2\)/,
  );
  a.listener.kill("SIGTERM");
  await a.listener.ended;
  assert.match(
    await fails(address),
    /the peer is away, last seen [\d: -]+; tried 127\.0\.0\.1:\d+ \(/,
  );
});

scenario("warm: if the listener is killed while it dials, the process dials by itself", {
  limitMs: 90_000,
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const address = await a.at();
  a.listener.kill("SIGSTOP");
  const process = await b.connect(address, { stdin: "word" });
  await process.says(THROUGH);
  b.listener.kill("SIGKILL");
  await process.says(/not through the running listener: it has ended/);
  a.listener.kill("SIGCONT"); // a start may take longer than the dial waits
  const { code, stdout, stderr } = await process.ended;
  assert.deepEqual([code, stdout], [0, answered("word")], stderr);
});
