/** Measures what peers that are away cost: a `sync`, a dial on a slow path, and a listener that looks for them. */

import { join } from "node:path";
import { newIdentity } from "../../lib/repository/identity.ts";
import { encodeTicket } from "../../lib/repository/ticket.ts";
import { Annex } from "../../tests/annex.ts";
import { lengthen, makeNetwork, makeNetworkOf, startRelay, unplug } from "../../tests/network.ts";
import { echo, FakeAnnex, makeRepository } from "../../tests/pair.ts";
import { listen } from "../../tests/relays.ts";
import type { Host, Started, TestEnv } from "../../tests/testenv.ts";
import { deno } from "../../tests/tools.ts";
import { inEnv } from "./environment.ts";
import { forgetPeak, usage } from "./traffic.ts";

const BENCH_TIMEOUT_MS = 60 * 60_000;
const SYNC_TIMEOUT_S = "120", FIRST_TIMEOUT_S = "10";
/** Remotes of the listener, and how many of them are there. */
const REMOTES = 50, PRESENT = 10;
const IDLE_MINUTES = 10;
const FRIENDS = ["ann", "bob", "cem"] as const;

/** Yields each table as soon as it is measured. */
export async function* benchAbsent(): AsyncGenerator<{ title: string; markdown: string }> {
  yield {
    title: "git annex sync with two of three friends away, on a LAN with a relay",
    markdown: await inEnv(BENCH_TIMEOUT_MS, benchSync),
  };
  for (const [cables, where] of [[[75, 75], "150 ms from each"], [[0, 150], "300 ms from one"]]) {
    yield {
      title: `A dial through a relay, round trip of 300 ms (the relay is ${where} end)`,
      markdown: await inEnv(BENCH_TIMEOUT_MS, (env) => benchFar(env, cables as number[])),
    };
  }
}

/** Measures a listener that looks for peers. @returns The title and the table. */
export async function benchSearch(): Promise<{ title: string; markdown: string }> {
  return {
    title: `A listener with ${REMOTES} remotes, ${REMOTES - PRESENT} of them away`,
    markdown: await inEnv(BENCH_TIMEOUT_MS, benchIdle),
  };
}

/** Measures `sync` with and without a listener. */
async function benchSync(env: TestEnv): Promise<string> {
  const hosts = await makeNetworkOf(env, "lan", [...FRIENDS, "me"]);
  const { url } = await startRelay(env, hosts.relay);
  const daemons = new Map<string, Started>();
  const annexOf = async (host: Host): Promise<Annex> => {
    Object.assign(host.env, { GIT_ANNEX_P2P_IROH_RELAY: url, GIT_ANNEX_P2P_IROH_LAN: "true" });
    const annex = await Annex.make(env, host);
    await annex.enable();
    daemons.set(host.name, await annex.serve());
    return annex;
  };
  const me = await annexOf(hosts.me);
  await me.gitOk(["commit", "-q", "--allow-empty", "-m", "first"]);
  const friends: Annex[] = [];
  for (const name of FRIENDS) {
    const friend = await annexOf(hosts[name]);
    await friend.gitOk(["fetch", "-q", me.path, "main"]);
    await friend.gitOk(["merge", "-q", "FETCH_HEAD"]);
    await me.link(name, await friend.addresses());
    friends.push(friend);
  }
  const sync = async (...remotes: string[]): Promise<number> => {
    const args = ["annex", "sync", "--no-content", "--quiet", ...remotes];
    const begin = performance.now();
    const command = ["timeout", SYNC_TIMEOUT_S, "git", ...args];
    const { code } = await env.run(command, { on: me.host, cwd: me.path });
    const seconds = (performance.now() - begin) / 1000;
    if (code !== 0 && remotes.length > 0) throw new Error("a friend who is there is not reached");
    return seconds;
  };
  const rows: [string, number, number][] = [];
  await me.gitOk(["commit", "-q", "--allow-empty", "-m", "second"]);
  // A first fetch may hang, over any transport.
  await env.until("all friends to have the same", async () => {
    const first = ["timeout", FIRST_TIMEOUT_S, "git", "annex", "sync", "--no-content", "--quiet"];
    await env.run(first, { on: me.host, cwd: me.path });
    const commit = (await me.gitOk(["rev-parse", "main"])).trim();
    const heads = await Promise.all(friends.map((friend) => friend.gitOk(["show-ref", "--heads"])));
    return heads.every((heads) => heads.includes(`${commit} refs/heads/synced/main`));
  });
  const alone = await sync(FRIENDS[0]);
  for (const name of FRIENDS.slice(1)) await leave(daemons.get(name)!, hosts[name]);
  await env.until("the listener to know who is away", async () => {
    const status = await env.ok(["git-annex-p2p-iroh", "status"], { on: me.host, cwd: me.path });
    return [...status.matchAll(/away since/g)].length === FRIENDS.length - 1;
  });
  rows.push(["with a listener", alone, await sync()]);
  rows.push(["again", alone, await sync()]);
  await leave(daemons.get("me")!);
  const cold = await sync(FRIENDS[0]);
  rows.push(["without a listener", cold, await sync()]);
  rows.push(["again", cold, await sync()]);
  await env.until("the last dial to be 10 s ago", () => wait(11_000).then(() => true));
  rows.push(["again, 11 s later", cold, await sync()]);
  const lines = rows.map(([what, without, withAll]) =>
    `| ${what} | ${without.toFixed(1)} | ${withAll.toFixed(1)} | ${
      (withAll - without).toFixed(1)
    } |`
  );
  return ["| | that friend alone, s | all three, s | difference, s |", "| --- | --: | --: | --: |"]
    .concat(lines).join("\n");
}

/** Has a friend end remotedaemon, and leave the network. */
async function leave(daemon: Started, host?: Host): Promise<void> {
  if (host) await unplug(host);
  daemon.kill("SIGKILL");
  await daemon.end();
  await daemon.ended;
}

/** Measures how long a dial takes, from a process without a listener and from a listener. */
async function benchFar(env: TestEnv, milliseconds: readonly number[]): Promise<string> {
  const { a, b, relay } = await makeNetwork(env, "lan");
  for (const [i, host] of [a, b].entries()) {
    if (milliseconds[i]! > 0) await lengthen(env, host, i, milliseconds[i]!);
  }
  const { url } = await startRelay(env, relay);
  const { address, listener } = await listen(env, a, url);
  await listener.says(/reachable through relay/);
  const setting = { GIT_ANNEX_P2P_IROH_RELAY: url, GIT_ANNEX_P2P_IROH_LOG: "debug" };
  const cold = await env.iroh([address], { on: b, stdin: "x", env: setting });
  const cwd = await makeRepository(env, b, "dialing");
  const annex = new FakeAnnex(env, join(b.dir, "dialing-socket"), echo);
  const own = (await env.ok(["git-annex-p2p-iroh", "address"], { on: b, cwd, env: setting }))
    .trim();
  const dialing = await env.start(["git-annex-p2p-iroh", own, annex.path], {
    on: b,
    cwd,
    env: setting,
  });
  await dialing.says(/reachable through relay/);
  const warm = await env.iroh([address], { on: b, cwd, stdin: "x", env: setting });
  if (cold.code !== 0 || warm.code !== 0) throw new Error(cold.stderr + warm.stderr);
  const lines = [["a process", cold.stderr], ["a listener", dialing.stderr]] as const;
  return ["| dialed by | from the dial to the connection, s | from when this host is online, s |"]
    .concat("| --- | --: | --: |")
    .concat(lines.map(([what, log]) => {
      const [begin, online, end] = [/dialing$/, /this host is online$/, /connected, /].map((line) =>
        timeOf(log, line)
      );
      const seconds = (from: number) => ((end! - from) / 1000).toFixed(2);
      return `| ${what} | ${seconds(begin!)} | ${seconds(online!)} |`;
    })).join("\n");
}

/** Returns the time of the last line of a debug log that matches, in milliseconds. */
function timeOf(log: string, line: RegExp): number {
  const found = log.split("\n").findLast((text) => line.test(text));
  return Number(/([\d.]+) ms/.exec(found ?? "")?.[1] ?? NaN);
}

/** Measures a listener whose remotes are mostly away. */
async function benchIdle(env: TestEnv): Promise<string> {
  const { a, b, relay } = await makeNetwork(env, "lan");
  const { url } = await startRelay(env, relay);
  const setting = { GIT_ANNEX_P2P_IROH_RELAY: url, GIT_ANNEX_P2P_IROH_LAN: "true" };
  const peers = await env.start(deno("present_peers.ts", `${PRESENT}`, url), { on: a });
  await peers.says(/all are there/);
  const present = peers.stdout.split("\n").filter((line) => line.startsWith("endpoint"));
  const away = Array.from({ length: REMOTES - PRESENT }, () => {
    return encodeTicket({ publicKey: newIdentity().publicKey, relays: [url] });
  });
  const cwd = await makeRepository(env, b, "repository");
  const config = [...present, ...away].map((address, i) =>
    `[remote "peer${i}"]\n\turl = p2p-annex::iroh:${address}\n\tfetch = +refs/heads/*:refs/remotes/peer${i}/*\n`
  );
  await Deno.writeTextFile(join(cwd, ".git", "config"), config.join(""), { append: true });
  const annex = new FakeAnnex(env, join(b.dir, "socket"), echo);
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: b, cwd, env: setting }))
    .trim();
  const serve = ["git-annex-p2p-iroh", address, annex.path];
  const listener = await env.start(serve, { on: b, cwd, env: setting });
  await listener.says(/reachable through relay/);
  const { pid } = listener;
  const lines = ["| minutes | CPU, % of a core | most memory, MiB | packets sent a minute |"];
  lines.push("| --- | --: | --: | --: |");
  const measure = async () => ({ ...await usage(pid), packets: await packetsSent(env, b) });
  let before = await measure();
  for (const [from, to] of [[0, 1], [1, 5], [5, IDLE_MINUTES]] as const) {
    await forgetPeak(pid);
    await wait((to - from) * 60_000);
    const after = await measure(), seconds = (to - from) * 60;
    const cpu = 100 * (after.cpuSeconds - before.cpuSeconds) / seconds;
    const packets = (after.packets - before.packets) / (to - from);
    lines.push(
      `| ${from} to ${to} | ${cpu.toFixed(2)} | ${after.peakMiB.toFixed(0)} | ${
        packets.toFixed(0)
      } |`,
    );
    before = after;
  }
  const status = await env.ok(["git-annex-p2p-iroh", "status"], { on: b, cwd, env: setting });
  const known = [...status.matchAll(/away since/g)].length;
  lines.push(`\nThe listener knows of ${known} that are away.`);
  return lines.join("\n");
}

async function packetsSent(env: TestEnv, on: Host): Promise<number> {
  const counted = await env.ok(["ip", "-s", "-j", "link", "show", "eth0"], { on });
  const [{ stats64: { tx: { packets } } }] = JSON.parse(counted);
  return packets;
}

function wait(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
