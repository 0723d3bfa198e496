/** A dial to a peer that is away ends soon, and a peer that is back is believed at once. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { ANNEX_TOOLS, makeAnnexes } from "./annex.ts";
import { type Friend, makeFriend } from "./friends.ts";
import { changeAddress, LAN } from "./lan.ts";
import { makeNetwork, unplug } from "./network.ts";
import { echo, makePair } from "./pair.ts";
import { statusOf } from "./status.ts";
import { type Run, scenario, type Started, type TestEnv } from "./testenv.ts";
import { DIAL_MS, DIALING, dialsIn, exchange, unlessSlow } from "./warm.ts";

/** A dial that has failed. */
interface FailedDial {
  readonly reason: string;
  readonly seconds: number;
  readonly stderr: string;
}

/** Matches a line of the debug log, in which each dial is. */
const DEBUG = /\] +[\d.]+ ms /;

/** Runs a dial that must fail because the peer is away. */
async function isAway(start: () => Promise<Started>): Promise<FailedDial> {
  const begin = performance.now();
  const { code, stderr } = await (await start()).ended;
  const seconds = (performance.now() - begin) / 1000;
  assert.equal(code, 1);
  const reason =
    /: ((?:cannot reach the peer|the peer is away, last seen [\d: -]{19}); tried .*)\n$/.exec(
      stderr,
    )?.[1];
  assert(reason, stderr);
  return { reason, seconds, stderr };
}

/**
 * Asserts that a process fails, and that neither it nor its listener dials. One whose listener is slow does not count.
 *
 * @returns The reason.
 */
async function failsAtOnce(
  connect: () => Promise<Started>,
  listener?: Started,
): Promise<string> {
  const dials = () => dialsIn(listener?.stderr ?? ""), before = dials();
  const failed = await unlessSlow(() => isAway(connect));
  assert.match(failed.stderr, DEBUG);
  assert.deepEqual([dialsIn(failed.stderr), dials()], [0, before]);
  assert(failed.seconds * 1000 < DIAL_MS, `${failed.seconds} s`); // nor does it wait
  return failed.reason;
}

async function stateOf(env: TestEnv, at: Friend, peer: Friend): Promise<string | undefined> {
  const { peers } = await statusOf(env, at);
  return peers.find(({ key }) => key.startsWith(peer.key))?.state;
}

scenario(
  "absent: the listener knows that a friend's network has gone, and that it is back at another address",
  { waits: true, needs: ["namespaces"], limitMs: 120_000 },
  async (env) => {
    const network = await makeNetwork(env, "lan");
    for (const host of [network.a, network.b]) Object.assign(host.env, LAN);
    const a = await makeFriend(env, network.a), b = await makeFriend(env, network.b);
    await env.ok(["git", "remote", "add", "a", `p2p-annex::iroh:${a.address}`], {
      on: b.host,
      cwd: b.repository,
    });
    // Nobody has dialed it: the listener has looked for the peers of its remotes.
    await env.until("b to find a", async () => await stateOf(env, b, a) === "here");
    const session = await b.connect(a.address, { stdin: "open" });
    await session.says(/AUTH-SUCCESS/);

    await unplug(a.host);
    await env.until("b to know that a is away", async () => await stateOf(env, b, a) === "away");
    // The listener has just tried it.
    const reason = await failsAtOnce(() => b.connect(a.address, { stdin: "x" }), b.listener);
    assert.match(reason, /^the peer is away, last seen [\d: -]{19}; tried the local network/);

    await env.ok(["ip", "link", "set", "eth0", "up"], { on: a.host });
    await changeAddress(env, a.host, "10.77.0.1", "10.77.0.11");
    await env.until("b to know that a is back", async () => await stateOf(env, b, a) === "here");
    assert.equal((await exchange(b, a.address)).isWarm, true);
  },
);

scenario(
  "absent: without a listener a failed dial is remembered, until the peer is back as dumbpipe",
  { waits: true, needs: ["dumbpipe", "namespaces"], limitMs: 120_000 },
  async (env) => {
    const pair = await makePair(env, "direct", echo);
    const { a } = pair.network, [bound] = decodeTicket(pair.dialed).direct;
    pair.listener.kill("SIGKILL");
    await pair.listener.ended;
    const connect = () => pair.connect({ stdin: "", env: { GIT_ANNEX_P2P_IROH_LOG: "debug" } });
    const first = await isAway(connect);
    assert(first.seconds > 8 && first.seconds < 12, `${first.seconds} s`);
    assert.match(first.reason, /\(no answer within 8 s\)/);
    assert.match(first.stderr, DIALING);
    assert.equal(await failsAtOnce(connect), first.reason);

    const secret = await Deno.readTextFile(join(pair.repository, ".git/annex/creds/iroh-secret"));
    const command = ["dumbpipe", "listen-unix", "--socket-path", pair.fakeAnnex.path];
    const dumbpipe = await env.start([...command, "--ipv4-addr", bound!], {
      on: a,
      env: { IROH_SECRET: secret.trim() },
    });
    await dumbpipe.says(/endpoint[a-z2-7]{50,}/);
    let run: Run | undefined;
    await env.until("the peer to be reached", async () => {
      run = await (await pair.connect({ stdin: "word" })).ended;
      return run.code === 0;
    });
    assert.match(run!.stdout, /word$/);
  },
);

for (const isServed of [false, true]) {
  scenario(
    `absent: git annex p2p --link tries a peer that was just away, ${
      isServed ? "through the" : "without a"
    } listener`,
    { waits: true, needs: ANNEX_TOOLS, limitMs: 90_000 },
    async (env) => {
      const { a, b } = await makeAnnexes(env);
      if (isServed) await b.serve();
      const addresses = await a.addresses();
      const link = () => b.run(["p2p", "--link", "--name=friend"], { stdin: addresses });
      assert.notEqual((await link()).code, 0);
      await a.serve();
      assert.equal((await link()).code, 0);
    },
  );
}
