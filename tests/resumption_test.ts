/** Sessions whose connection is lost go on on another one. */

import assert from "node:assert/strict";
import type { StatusReport } from "../lib/status/report.ts";
import { addRule, removeRules } from "./faults.ts";
import { type Friend, makeFriend } from "./friends.ts";
import { makeNetwork, type Network } from "./network.ts";
import { AUTH_SUCCESS, AUTH_SUCCESS_BYTES, echo, makePair, writeAll } from "./pair.ts";
import { scenario, type ScenarioOptions, type Started, type TestEnv } from "./testenv.ts";
import { connectOrSlow, unlessSlow } from "./warm.ts";

const needs: ScenarioOptions = { needs: ["namespaces", "iptables"], limitMs: 120_000 };
/** Longest time until a peer that is reached again is told of a session that is given up: no time limit. */
const TOLD_MS = 10_000;
const DEBUG = { GIT_ANNEX_P2P_IROH_LOG: "debug" };

/** Says something to the peer, which says it again. */
async function exchange(env: TestEnv, dialer: Started, text: string): Promise<void> {
  await dialer.write(text);
  await env.until(`${text} to come back`, () => {
    assert.equal(dialer.code, undefined, dialer.stderr);
    return dialer.stdout.endsWith(text);
  });
}

/** Returns what the status of a friend says of its only peer. */
async function peerOf(env: TestEnv, { host, repository }: Friend): Promise<string> {
  const status = ["git-annex-p2p-iroh", "status", "--json"];
  const report: StatusReport = JSON.parse(await env.ok(status, { on: host, cwd: repository }));
  const { bytesSent, bytesReceived, sessions, path } = report.peers[0]!;
  return `${bytesSent} out, ${bytesReceived} in, sessions ${sessions.incoming} in, ` +
    `${sessions.outgoing} out, ${path?.split(" ")[0]}`;
}

scenario("resumption: a session of a process that dials by itself", needs, async (env) => {
  const pair = await makePair(env, "direct", echo);
  const dialer = await pair.connect({ stdin: "open", env: DEBUG });
  await exchange(env, dialer, "before");
  await addRule(env, pair.network.b, "-j DROP");
  await dialer.write("meanwhile");
  await dialer.says(/the connection is lost, and dialed again/);
  await removeRules(env, pair.network.b);
  await exchange(env, dialer, "after");
  await dialer.end();
  const { code, stdout, stderr } = await dialer.ended;
  assert.deepEqual([code, stdout], [0, `${AUTH_SUCCESS}beforemeanwhileafter`], stderr);
  assert.equal(pair.fakeAnnex.total, 1, "git-annex sees one connection");
});

/** Two friends, and two processes that connect one with the other through its listener. */
interface Joined {
  readonly a: Friend;
  readonly b: Friend;
  readonly processes: readonly [Started, Started];
  readonly stderr: string;
}

/** Joins two friends. If a listener is slow, as on a busy machine, with others, since sessions and bytes are counted. */
function join(env: TestEnv, { a: hostA, b: hostB }: Network): Promise<Joined> {
  let count = 0;
  return unlessSlow(async () => {
    const name = `repository-${count++}`;
    const a = await makeFriend(env, hostA, echo, name),
      b = await makeFriend(env, hostB, echo, name);
    const connect = async () => await connectOrSlow(b, await a.at());
    const processes = await Promise.all([connect(), connect()]);
    return { a, b, processes, stderr: processes.map(({ stderr }) => stderr).join("") };
  }, async ({ a, b, processes }) => {
    for (const started of [...processes, a.listener, b.listener]) {
      started.kill("SIGKILL");
      await started.ended;
    }
  });
}

scenario("resumption: a session through a listener", needs, async (env) => {
  const network = await makeNetwork(env, "lan");
  const { a, b, processes: [dialer, interrupted] } = await join(env, network);
  await exchange(env, dialer, "before");
  await exchange(env, interrupted, "word");
  await addRule(env, b.host, "-j DROP");
  await dialer.write("meanwhile");
  for (const process of [dialer, interrupted]) {
    // Before the listener has the request, it cannot tell the peer that the process has ended.
    await process.says(/the connection is lost, and dialed again[^]*through the running listener/);
  }
  interrupted.kill("SIGINT");
  await interrupted.ended;
  await removeRules(env, b.host);
  await exchange(env, dialer, "after");
  const restoredAt = performance.now();
  await env.until("git-annex to hear of the interrupted session", () => a.fakeAnnex.open === 1);
  assert(performance.now() - restoredAt < TOLD_MS);

  const sent = "beforemeanwhileafter".length + "word".length;
  const received = sent + 2 * AUTH_SUCCESS.length;
  let atA = "", atB = "";
  await env.until("each byte and session to be counted once", async () => {
    [atA, atB] = [await peerOf(env, a), await peerOf(env, b)];
    return atB === `${sent} out, ${received} in, sessions 0 in, 1 out, direct` &&
      atA === `${received} out, ${sent} in, sessions 1 in, 0 out, direct`;
  });
  await dialer.end();
  const { code, stdout, stderr } = await dialer.ended;
  assert.deepEqual([code, stdout], [0, `${AUTH_SUCCESS}beforemeanwhileafter`], stderr);
});

scenario(
  "resumption: a process whose peer is through gets the last acknowledgement",
  needs,
  async (env) => {
    let read = "";
    const pair = await makePair(env, "direct", async (connection) => {
      await writeAll(connection, AUTH_SUCCESS_BYTES);
      await connection.closeWrite();
      for await (const piece of connection.readable) read += new TextDecoder().decode(piece);
    });
    const dialer = await pair.connect({ stdin: "open", env: DEBUG });
    await dialer.says(/AUTH-SUCCESS/);
    await dialer.write("word");
    await env.until("git-annex to get the word", () => read === "word");
    await addRule(env, pair.network.b, "-j DROP");
    await dialer.end();
    await env.until("git-annex to be through", () => pair.fakeAnnex.open === 0);
    await dialer.says(/the connection is lost, and dialed again/);
    assert.equal(dialer.code, undefined);
    await removeRules(env, pair.network.b);
    const { code, stdout, stderr } = await dialer.ended;
    assert.deepEqual([code, stdout], [0, AUTH_SUCCESS], stderr);
    await env.until("the log to tell of it", async () => /was served after/.test(await pair.log()));
  },
);

scenario("resumption: a session that the peer does not know is refused", needs, async (env) => {
  const pair = await makePair(env, "direct", echo);
  const dialer = await pair.connect({ stdin: "open", env: DEBUG });
  await exchange(env, dialer, "before");
  await addRule(env, pair.network.b, "-j DROP");
  pair.listener.kill("SIGKILL"); // and with it all that it knew
  await pair.listener.ended;
  await (await pair.listen()).says(/serving endpoint/);
  await dialer.says(/the connection is lost, and dialed again/);
  await removeRules(env, pair.network.b);
  const { code, stderr } = await dialer.ended;
  assert.equal(code, 1);
  assert.match(
    stderr,
    /git-annex-p2p-iroh: the peer is lost in mid-stream|the peer ended the connection/,
  );
});
