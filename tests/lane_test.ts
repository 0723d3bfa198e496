/** Large transfers on a direct connection beside that of iroh. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { addRule } from "./faults.ts";
import { closeFirewall, lengthen, makeNetwork } from "./network.ts";
import {
  AUTH_SUCCESS,
  AUTH_SUCCESS_BYTES,
  checksumOf,
  dumbpipeListener,
  echo,
  FakeAnnex,
  listenerPort,
  makePair,
  type Pair,
  randomBytes,
  readChecksum,
  sendByLane,
  writeAll,
} from "./pair.ts";
import { memoryOf, openFilesOf, scenario, type ScenarioOptions } from "./testenv.ts";

const DEBUG = { GIT_ANNEX_P2P_IROH_LOG: "debug" };
const needs = ["namespaces"] as const;
const withIptables: ScenarioOptions = { needs: [...needs, "iptables"], limitMs: 120_000 };

/**
 * Sends data there and back.
 *
 * @param kind Kind of the lane by which most of it goes. Undefined if it is too little for a lane.
 * @returns The stderr of the dialing process.
 */
async function exchange(pair: Pair, bytes: number, kind?: "TLS" | "QUIC"): Promise<string> {
  const data = randomBytes(bytes);
  const dialer = await pair.connect({ stdin: kind ? "open" : data, env: DEBUG });
  if (kind) await sendByLane(dialer, data, kind);
  const { code, stdoutBytes, stderr } = await dialer.ended;
  assert.equal(code, 0, stderr);
  await assertEchoed(stdoutBytes, data);
  return stderr;
}

async function assertEchoed(stdout: Uint8Array, data: Uint8Array): Promise<void> {
  const back = stdout.subarray(AUTH_SUCCESS.length);
  assert.equal(back.length, data.length);
  assert.equal(await checksumOf(back), await checksumOf(data));
}

scenario(
  "lane: a large transfer migrates to TLS over TCP, and a small one stays with iroh",
  { needs },
  async (env) => {
    const pair = await makePair(env, "direct", echo);
    assert.match(await exchange(pair, 30_000_000, "TLS"), /lane: TLS with 10\.77\.0\.1:\d+\n/);
    assert.doesNotMatch(await exchange(pair, 50_000), /lane/);
    assert.doesNotMatch(await pair.log(), /failed|turned away|lost/);
  },
);

scenario("lane: an offer that comes before git-annex has admitted the peer succeeds", {
  needs,
}, async (env) => {
  const pair = await makePair(env, "direct", async (connection) => {
    // Reads more than the amount at which the opener offers a lane.
    for (let read = 0; read < 400_000;) {
      read += await connection.read(new Uint8Array(64 * 1024)) ?? Infinity;
    }
    await writeAll(connection, AUTH_SUCCESS_BYTES);
    await readChecksum(connection);
  });
  const dialer = await pair.connect({ stdin: "open", env: DEBUG });
  assert.match(await sendByLane(dialer, randomBytes(20_000_000), "TLS"), / 10\.77\.0\.1:\d+\n/);
  const { code } = await dialer.ended;
  assert.equal(code, 0);
});

scenario("lane: ends behind firewalls meet over QUIC", withIptables, async (env) => {
  const pair = await makePair(env, "direct", echo);
  // iroh's connection exists before the firewalls close, as after hole punching.
  const dialer = await pair.connect({ stdin: "open", env: DEBUG });
  await dialer.says(/AUTH-SUCCESS/);
  for (const host of [pair.network.a, pair.network.b]) {
    await addRule(env, host, "-m state --state NEW,INVALID -j DROP");
  }
  const data = randomBytes(20_000_000);
  assert.match(await sendByLane(dialer, data, "QUIC"), / 10\.77\.0\.1:\d+\n/);
  const { code, stdoutBytes } = await dialer.ended;
  assert.equal(code, 0);
  await assertEchoed(stdoutBytes, data);
});

/** Lanes in each part that is compared. The first part fills what the process keeps for later. */
const LANES = 12;
const NOTHING_STAYS =
  "lane: the four connections of a QUIC lane leave no socket and no memory behind";
/** Time for which a packet travels, long enough for a QUIC lane to have four connections. */
const ONE_WAY_MS = 2;
const SOAK = { ...withIptables, takesTurns: true, limitMs: 240_000 };
scenario(NOTHING_STAYS, SOAK, async (env) => {
  const pair = await makePair(env, "direct", echo);
  const { network, listener: { pid } } = pair;
  await lengthen(env, network.b, 1, ONE_WAY_MS); // nearer ends use one connection
  await closeFirewall(network.a, await listenerPort(network.a, pair.address));
  await closeFirewall(network.b);
  await exchange(pair, 1000);
  const before = await openFilesOf(pid);
  const memory: number[] = [];
  for (let i = 0; memory.length < 3 * LANES; i++) {
    assert(i < 2 * 3 * LANES, `${memory.length} of ${i} lanes have four connections`);
    const said = await exchange(pair, 8_000_000, "QUIC");
    // On a busy machine, some connections are not there in time.
    if (/lane: 4 connections\n/.test(said)) memory.push(Math.round(await memoryOf(pid)));
  }
  // It rises and falls by 20 MiB. A bug once took 3 MiB per lane, which the least of each part shows.
  const [earlier, later] = [1, 2].map((part) =>
    Math.min(...memory.slice(part * LANES, (part + 1) * LANES))
  );
  assert(later! - earlier! < 15, `memory: ${memory} MiB`);
  await env.until("the sockets to be closed", async () => await openFilesOf(pid) <= before + 1);
});

scenario("lane: if no lane can be made, the session stays on iroh", withIptables, async (env) => {
  const pair = await makePair(env, "direct", echo);
  const dialer = await pair.connect({ stdin: "open", env: DEBUG });
  await dialer.says(/AUTH-SUCCESS/);
  const port = (await dialer.says(/direct 10\.77\.0\.1:\d+/)).split(":")[1]!;
  for (const host of [pair.network.a, pair.network.b]) {
    await addRule(env, host, "-p tcp -j DROP");
  }
  // Only iroh's UDP packets pass.
  await addRule(env, pair.network.a, `-p udp ! --dport ${port} -j DROP`);
  await addRule(env, pair.network.b, `-p udp ! --sport ${port} -j DROP`);
  const data = randomBytes(5_000_000);
  await dialer.write(data);
  await dialer.says(/no lane: /);
  await dialer.end();
  const { code, stdoutBytes } = await dialer.ended;
  assert.equal(code, 0);
  await assertEchoed(stdoutBytes, data);
});

for (const side of ["listener", "dialer"] as const) {
  scenario(`lane: the ${side} can turn it off`, { needs }, async (env) => {
    const off = { GIT_ANNEX_P2P_IROH_LANE: "false" };
    const pair = await makePair(env, "direct", echo, side === "listener" ? off : {});
    const data = randomBytes(2_000_000);
    const on = { GIT_ANNEX_P2P_IROH_LANE: "true" };
    const setting = side === "dialer" ? off : on;
    for (const isKnown of [false, true]) { // true once the dialer has cached it
      const dialer = await pair.connect({ stdin: "open", env: { ...DEBUG, ...setting } });
      await dialer.says(/AUTH-SUCCESS/); // from a peer that is not let in yet, the listener takes little
      await dialer.write(data);
      await dialer.end();
      const { code, stdoutBytes, stderr } = await dialer.ended;
      assert.equal(code, 0);
      assert.doesNotMatch(stderr, /lane/);
      assert.equal(/another protocol/.test(stderr), side === "listener" && !isKnown);
      await assertEchoed(stdoutBytes, data);
    }
  });
}

scenario("lane: a dialer remembers that a peer speaks only dumbpipe's protocol", {
  needs: [...needs, "dumbpipe"],
}, async (env) => {
  const { a, b } = await makeNetwork(env, "lan");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  const { ticket } = await dumbpipeListener(env, a, fakeAnnex.path);
  const dial = async () => {
    const run = await env.iroh([ticket], { on: b, stdin: "hello\n", env: DEBUG });
    assert.deepEqual([run.code, run.stdout], [0, `${AUTH_SUCCESS}hello\n`]);
    return run.stderr;
  };
  assert.match(await dial(), /another protocol/);
  assert.doesNotMatch(await dial(), /another protocol/);
});
