/** Hosts with many network interfaces, as those that run containers. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { makeFriend } from "./friends.ts";
import { assertEchoed, LAN } from "./lan.ts";
import { makeNetwork, startRelay } from "./network.ts";
import { echo, randomBytes, sendByLane } from "./pair.ts";
import { type Host, scenario, type TestEnv } from "./testenv.ts";

/** Makes links on a host that lead nowhere: twice as many interfaces, each with an address. */
async function addLinks(env: TestEnv, on: Host, count: number): Promise<void> {
  // Without it, IPv6 addresses do not work in their first seconds.
  await env.ok(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad"], { on });
  const second = on.name === "a" ? 20 : 30;
  const commands = Array.from({ length: count }, (_, i) => [
    `link add c${i}a type veth peer name c${i}b`,
    ...["a", "b"].flatMap((end, j) => [
      `addr add 10.${second + j}.${i}.1/24 dev c${i}${end}`,
      `link set c${i}${end} up`,
    ]),
  ]);
  await batch(env, on, commands.flat());
}

/** Gives a host's address on the LAN to an interface that comes after all others. */
async function moveAddressToLast(env: TestEnv, on: Host): Promise<void> {
  await batch(env, on, [
    "link add zz0 type bridge",
    `addr del ${on.ip}/24 dev eth0`,
    "link set eth0 master zz0",
    "link set zz0 up",
    `addr add ${on.ip}/24 dev zz0`,
    "route add default via 10.77.0.254",
  ]);
}

async function batch(env: TestEnv, on: Host, commands: readonly string[]): Promise<void> {
  const stdin = commands.map((line) => `${line}\n`).join("");
  await env.ok(["ip", "-batch", "-"], { on, stdin });
}

/** Returns the milliseconds at which a process wrote a line to its log. */
function timeOf(stderr: string, line: RegExp): number {
  const found = stderr.split("\n").find((text) => line.test(text));
  assert(found, `no line ${line} in ${stderr}`);
  return Number(/\]\s+([\d.]+) ms/.exec(found)![1]);
}

/** Longest time from the connection to the lane. */
const AT_ONCE_MS = 2_000;

// An offer holds 16 addresses. Those of containers once left no room for the one that leads to the peer.
scenario(
  "interfaces: with 110 of them, ends that know each other by a relay have a lane at once",
  { needs: ["namespaces", "iroh-relay"], limitMs: 120_000, takesTurns: true },
  async (env) => {
    const { a, b, relay } = await makeNetwork(env, "lan");
    const { url } = await startRelay(env, relay);
    for (const host of [a, b]) {
      host.env.GIT_ANNEX_P2P_IROH_RELAY = url;
      await addLinks(env, host, 55);
      await moveAddressToLast(env, host);
    }
    // Each time is the first one of a listener. A busy machine takes long only now and then.
    const times: number[] = [];
    while (times.every((time) => time >= AT_ONCE_MS) && times.length < 5) {
      const { address, listener } = await makeFriend(env, a, echo, `repository-${times.length}`);
      await listener.says(/reachable through relay/);
      const dialer = await env.start(["git-annex-p2p-iroh", address], {
        on: b,
        stdin: "open",
        env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
      });
      await sendByLane(dialer, randomBytes(5_000_000), "TLS");
      const { code, stderr } = await dialer.ended;
      assert.equal(code, 0);
      times.push(
        timeOf(stderr, /lane: TLS with 10\.77\.0\.1:\d+$/) - timeOf(stderr, / connected, /),
      );
      listener.kill("SIGTERM");
      await listener.ended;
    }
    console.log(`  ${times.map(Math.round)} ms`);
    assert(Math.min(...times) < AT_ONCE_MS, `${times} ms`);
  },
);

/** Returns how many UDP sockets at port 5353 a host has that are bound to no address. */
async function receivers(env: TestEnv, on: Host): Promise<number> {
  const sockets = await env.ok(["cat", "/proc/net/udp", "/proc/net/udp6"], { on });
  return sockets.match(/: 0+:14E9 /g)?.length ?? 0;
}

// Each interface once had a socket that received the packets of all: with 240, a dial took 25 s.
scenario(
  "interfaces: with 240 of them, a peer on this host is found by mDNS, and two sockets receive all",
  { needs: ["namespaces"], limitMs: 120_000, takesTurns: true },
  async (env) => {
    const { a } = await makeNetwork(env, "lan");
    await addLinks(env, a, 120);
    Object.assign(a.env, LAN);
    const { address } = await makeFriend(env, a, echo);
    await env.until("its sockets", async () => await receivers(env, a) === 2);
    // In another runtime folder, the listener's registration is not found.
    const elsewhere = join(a.dir, "elsewhere");
    await Deno.mkdir(elsewhere, { mode: 0o700 });
    const begin = performance.now();
    const dialer = await env.start(["git-annex-p2p-iroh", address], {
      on: a,
      stdin: "hello\n",
      env: { XDG_RUNTIME_DIR: elsewhere },
    });
    assertEchoed(await dialer.ended);
    console.log(`  ${Math.round(performance.now() - begin)} ms`);
    assert.equal(await receivers(env, a), 2);
  },
);
