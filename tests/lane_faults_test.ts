/** Sessions whose lanes go wrong, and which go on. */

import assert from "node:assert/strict";
import {
  addRule,
  EchoedTransfer,
  lostLanes,
  makeMtuHole,
  moveHost,
  rulesForLane,
} from "./faults.ts";
import { type Friend, makeFriend } from "./friends.ts";
import { makeNetwork, type Network, startRelay } from "./network.ts";
import { echo, listenerPort } from "./pair.ts";
import { memoryOf, scenario, type Started, type TestEnv } from "./testenv.ts";
import { connectThrough } from "./warm.ts";

/** Longest time without a byte that a lane which dies may cost. */
const MAX_STALL_MS = 8_000;
/** The same for what costs nothing: less than any time limit of a lane. */
const NO_STALL_MS = 1_500;
/** Twice the time after which a silent lane is dropped if its address is lost. */
const SILENCE_MS = 1_500;
const MB = 1_000_000;
/** More than the two connections of which one becomes a lane over TLS take before they are proven. */
const QUOTA_BYTES = 100_000;
const needs = ["namespaces", "iptables"] as const;
/** What a process says if it loses a lane, or iroh's connection. It may also lose what has not become a lane. */
const LOST = /lane: \S+ with \S+ is lost|the connection is lost, and dialed again/;

/** A served repository on host `a`, and how a process on host `b` connects to it. */
interface Scene {
  readonly network: Network;
  readonly a: Friend;
  /** Connects, with stdin open. */
  connect(): Promise<Started>;
}

/**
 * Sets the scene.
 *
 * @param isWarm Whether the process goes through a listener on host `b`.
 * @param hasRelay Whether the hosts also reach a relay.
 */
async function setScene(env: TestEnv, isWarm: boolean, hasRelay = false): Promise<Scene> {
  const network = await makeNetwork(env, "lan");
  if (hasRelay) {
    const { url } = await startRelay(env, network.relay);
    for (const host of [network.a, network.b]) host.env.GIT_ANNEX_P2P_IROH_RELAY = url;
  }
  const a = await makeFriend(env, network.a, echo), dialed = await a.at();
  if (hasRelay) await a.listener.says(/reachable through relay/);
  const settings = { GIT_ANNEX_P2P_IROH_LOG: "debug" };
  const options = { stdin: "open", collect: false, env: settings } as const;
  if (!isWarm) {
    const connect = () => env.start(["git-annex-p2p-iroh", dialed], { ...options, on: network.b });
    return { network, a, connect };
  }
  const b = await makeFriend(env, network.b, echo);
  const connect = () => connectThrough(b, dialed, options);
  return { network, a, connect };
}

for (const mtus of [{ host: 1500, hole: 1400 }, { host: 9000, hole: 8000 }]) {
  scenario(
    `lane: on a path that swallows packets of ${mtus.host} bytes, QUIC is the lane, and all arrives`,
    { needs, limitMs: 120_000, takesTurns: true },
    async (env) => {
      const { network, connect } = await setScene(env, false);
      await makeMtuHole(env, network, mtus);
      const dialer = await connect();
      const transfer = new EchoedTransfer(env, dialer, 8 * MB);
      await transfer.exchangeTo(2 * MB);
      await dialer.says(/lane: QUIC with \S+\n/);
      await transfer.finish();
      assert.match(dialer.stderr, /lane: QUIC with 10\.77\.0\.1:\d+\n/);
      assert.doesNotMatch(dialer.stderr, LOST);
      assert.doesNotMatch(dialer.stderr, /lane: TLS with \S+\n|given up: (?!the session)/);
    },
  );
}

type Kind = "TLS" | "QUIC";

/** Rules that leave a lane of this kind alone: what else might become one is dropped. */
async function allowOnly(env: TestEnv, { network: { a, b } }: Scene, kind: Kind): Promise<void> {
  if (kind === "TLS") return;
  for (const host of [a, b]) await addRule(env, host, "-p tcp -j DROP");
}

/**
 * What has made the dialer give up a lane: its silence, or that the listener has noticed that first. Then either
 * the listener's word at home, or the end of the lane, arrives first.
 */
const SILENT = "(it is silent|the peer has given it up|the peer has closed it)";

const CASES = [
  { kind: "TLS", to: "a", isWarm: false },
  { kind: "TLS", to: "b", isWarm: false },
  { kind: "QUIC", to: "a", isWarm: false },
  { kind: "QUIC", to: "b", isWarm: false },
  { kind: "TLS", to: "a", isWarm: true },
  { kind: "QUIC", to: "b", isWarm: true },
] as const;

for (const { kind, to, isWarm } of CASES) {
  const how = isWarm ? ", through a listener" : "";
  const towards = to === "a" ? "sent" : "received";
  scenario(
    `lane: one over ${kind} of which nothing ${towards} arrives any longer is dropped, and not used again${how}`,
    { needs, limitMs: 120_000, takesTurns: true },
    async (env) => {
      const scene = await setScene(env, isWarm), { network, a, connect } = scene;
      await allowOnly(env, scene, kind);
      const first = new EchoedTransfer(env, await connect(), 16 * MB);
      await first.exchangeTo(2 * MB);
      await first.dialer.says(new RegExp(`lane: ${kind} with 10\\.77\\.0\\.1:\\d+\n`));
      await first.exchangeTo(6 * MB);
      first.watch();
      const port = await listenerPort(network.a, a.address);
      for (const rule of rulesForLane(kind, to, port)) await addRule(env, network[to], rule);
      const stallMs = await first.finish();
      assert.match(
        first.dialer.stderr,
        new RegExp(`lane: ${kind} with \\S+ is lost: ${SILENT}`),
      );
      assert(stallMs < MAX_STALL_MS, `${stallMs} ms`);
      assert((await lostLanes(network.b, a.address)).includes(`${kind} 10.77.0.1`));

      const next = new EchoedTransfer(env, await connect(), 8 * MB);
      await next.exchangeTo(1);
      next.watch();
      const nextMs = await next.finish();
      assert.doesNotMatch(next.dialer.stderr, LOST);
      assert.doesNotMatch(next.dialer.stderr, new RegExp(`lane: ${kind} with \\S+\n`));
      assert(nextMs < NO_STALL_MS, `${nextMs} ms`);
    },
  );
}

for (const to of ["a", "b"] as const) {
  const towards = to === "a" ? "sent" : "received";
  scenario(
    `lane: one that is proven, and of which then nothing ${towards} arrives, is dropped`,
    { needs, limitMs: 120_000, takesTurns: true },
    async (env) => {
      const { network, connect } = await setScene(env, false);
      // Both ends dial the other, and prove each connection: what is left is for the first bytes of the lane.
      await addRule(env, network[to], `-p tcp -m quota --quota ${QUOTA_BYTES} -j ACCEPT`);
      await addRule(env, network[to], "-p tcp -j DROP");
      const transfer = new EchoedTransfer(env, await connect(), 8 * MB);
      transfer.watch();
      await transfer.exchangeTo(1 * MB);
      const firstMs = transfer.longestMs;
      await transfer.dialer.says(/lane: TLS with \S+\n/);
      transfer.watch();
      const stallMs = Math.max(firstMs, await transfer.finish());
      assert.match(transfer.dialer.stderr, new RegExp(`lane: TLS with \\S+ is lost: ${SILENT}`));
      assert(stallMs < MAX_STALL_MS, `${stallMs} ms`);
    },
  );
}

scenario(
  "lane: one that is reset is dropped, and the session goes on",
  { needs, limitMs: 120_000, takesTurns: true },
  async (env) => {
    const { network, connect } = await setScene(env, false);
    const transfer = new EchoedTransfer(env, await connect(), 16 * MB);
    await transfer.exchangeTo(2 * MB);
    await transfer.dialer.says(/lane: TLS with 10\.77\.0\.1:\d+\n/);
    await transfer.exchangeTo(6 * MB);
    transfer.watch();
    await addRule(env, network.a, "-p tcp -j REJECT --reject-with tcp-reset");
    const stallMs = await transfer.finish();
    assert.match(transfer.dialer.stderr, /lane: TLS with \S+ is lost: /);
    assert(stallMs < NO_STALL_MS, `${stallMs} ms`);
  },
);

scenario(
  "lane: when the dialing host and then the listening host change their addresses, the session goes on",
  { needs: [...needs, "iroh-relay"], limitMs: 120_000, takesTurns: true },
  async (env) => {
    const { network, connect } = await setScene(env, false, true);
    const transfer = new EchoedTransfer(env, await connect(), 24 * MB);
    await transfer.exchangeTo(2 * MB);
    await transfer.dialer.says(/lane: TLS with 10\.77\.0\.1:\d+\n/);
    for (
      const [end, host, from, to] of [
        [8 * MB, network.b, "10.77.0.2", "10.77.0.22"],
        [16 * MB, network.a, "10.77.0.1", "10.77.0.11"],
      ] as const
    ) {
      await transfer.exchangeTo(end);
      transfer.watch();
      await moveHost(env, host, from, to);
      await transfer.exchangeTo(end + 1 * MB);
    }
    await transfer.finish();
    assert.match(transfer.dialer.stderr, /lane: given up: this host has lost an address/);
  },
);

for (const kind of ["TLS", "QUIC"] as const) {
  scenario(
    `lane: ${kind}; when both hosts lose an address of their containers, it stays`,
    { needs, limitMs: 60_000, takesTurns: true },
    async (env) => {
      const scene = await setScene(env, false), { network, connect } = scene;
      await allowOnly(env, scene, kind);
      const hosts = [[network.a, "10.88.0.1"], [network.b, "10.88.1.1"]] as const;
      for (const [on, address] of hosts) {
        const script = [
          "ip link add containers type bridge",
          `ip addr add ${address}/24 dev containers`,
          "ip link set containers up",
        ];
        await env.ok(["sh", "-ec", script.join("\n")], { on });
      }
      const transfer = new EchoedTransfer(env, await connect(), 3 * MB);
      await transfer.exchangeTo(2 * MB);
      await transfer.dialer.says(new RegExp(`lane: ${kind} with 10\\.77\\.0\\.1:\\d+\n`));
      for (const [on] of hosts) await env.ok(["ip", "link", "del", "containers"], { on });
      await new Promise((resolve) => setTimeout(resolve, SILENCE_MS)); // nothing is to happen
      assert.doesNotMatch(transfer.dialer.stderr, /lane: given up/);
      await transfer.finish();
      assert.doesNotMatch(transfer.dialer.stderr, LOST);
    },
  );
}

/** For how long a process stands still: so long that iroh's connection is lost if it is that process's. */
const STANDSTILL_MS = 30_000;

const STANDSTILLS = [
  { who: "dialer", isWarm: false },
  { who: "listener", isWarm: false },
  { who: "dialer", isWarm: true },
] as const;

for (const { who, isWarm } of STANDSTILLS) {
  const how = isWarm ? " through a listener" : "";
  scenario(
    `lane: while the ${who}${how} stands still for 30 s, nothing is lost, nor is the lane`,
    { needs, limitMs: 120_000, waits: true },
    async (env) => {
      const { a, connect } = await setScene(env, isWarm);
      const transfer = new EchoedTransfer(env, await connect(), 60 * MB), { dialer } = transfer;
      await transfer.exchangeTo(30 * MB);
      await dialer.says(/lane: TLS with 10\.77\.0\.1:\d+\n/);
      const pids = [dialer.pid, a.listener.pid];
      const memory = () => Promise.all(pids.map(memoryOf));
      const before = await memory();
      const stopped = who === "dialer" ? dialer : a.listener;
      const writing = transfer.writeTo(45 * MB);
      stopped.kill("SIGSTOP");
      await new Promise((resolve) => setTimeout(resolve, STANDSTILL_MS));
      stopped.kill("SIGCONT");
      await writing;
      await transfer.exchangeTo(45 * MB);
      const after = await memory();
      await transfer.finish();
      assert.doesNotMatch(dialer.stderr, /lane: \S+ with \S+ is lost|given up: (?!the session)/);
      const isResumed = /the connection is lost, and dialed again/.test(dialer.stderr);
      assert.equal(isResumed, !isWarm);
      assert.equal(dialer.stderr.match(/lane: TLS with \S+\n/g)!.length, 1);
      for (const [i, mebibytes] of after.entries()) {
        assert(mebibytes - before[i]! < 20, `${before} MiB before, ${after} MiB after`);
      }
    },
  );
}
