/**
 * Measures how fast a process connects through its repository's listener (`warm`), and what kept connections
 * cost a listener.
 */

import { join } from "node:path";
import { decodeTicket, encodeTicket } from "../../lib/repository/ticket.ts";
import { MUX_ALPN } from "../../lib/protocol/mux.ts";
import { DUMBPIPE_ALPN } from "../../lib/protocol/dumbpipe.ts";
import { makeNetwork, startRelay, type Topology } from "../../tests/network.ts";
import {
  FakeAnnex,
  makeRepository,
  type Route,
  ROUTES,
  silence,
  withDirectAddress,
} from "../../tests/pair.ts";
import { type Host, memoryOf, type TestEnv } from "../../tests/testenv.ts";
import { helper, makeAnnexes, split } from "./annex.ts";
import { inEnv } from "./environment.ts";
import { inTurn, type Name, NAMES, Row } from "./table.ts";
import { dialForByte, serveBoth, usage } from "./traffic.ts";

/** Factor for the runs with one byte, which take little time and vary more than the others. */
const RUNS_OF_ONE_BYTE = 4;
const IDLE_PEERS = 50;
const IDLE_MS = 60_000;
const BENCH_TIMEOUT_MS = 60 * 60_000;
const SYNC_TIMEOUT_S = "50";
/** Name and port of the remote over plain TCP. */
const PLAIN = "tcp", PLAIN_PORT = 47_001;
const [OURS, THEIRS] = NAMES;
const WARM = { GIT_ANNEX_P2P_IROH_WARM: "true" }, COLD = { GIT_ANNEX_P2P_IROH_WARM: "false" };

/** The result of one scenario. */
export interface Table {
  readonly title: string;
  readonly rows: readonly Row[];
  /** A further result, as a sentence. */
  readonly note?: string;
}

/** Yields each table as soon as it is measured. */
export async function* benchWarm(runs: number): AsyncGenerator<Table> {
  const often = RUNS_OF_ONE_BYTE * runs;
  for (const topology of ["lan", "lan, long cable"] as const) {
    const where = topology === "lan" ? "on a LAN" : "round trip of 50 ms";
    const rows = [];
    for (const route of ROUTES) {
      rows.push(...await inEnv(BENCH_TIMEOUT_MS, (env) => benchByte(env, topology, route, often)));
    }
    yield { title: `One byte there and back, ${where}, ${often} runs`, rows };
  }
  const title = `git annex sync without changes, round trip of 50 ms, ${runs} runs`;
  yield { title, ...await inEnv(BENCH_TIMEOUT_MS, (env) => benchSync(env, runs)) };
  yield {
    title: `A listener with ${IDLE_PEERS} idle peers`,
    rows: await inEnv(BENCH_TIMEOUT_MS, benchIdle),
  };
}

/** Runs a measurement on new hosts. */
/** Measures whole processes in a served repository. A relay is at `a`'s end of the long cable. */
async function benchByte(
  env: TestEnv,
  topology: Topology,
  route: Route,
  runs: number,
): Promise<Row[]> {
  const network = await makeNetwork(env, topology);
  const relay = route === "relay" ? (await startRelay(env, network.relay)).url : undefined;
  const settings = { GIT_ANNEX_P2P_IROH_RELAY: relay ?? "none" };
  const { served, address } = await serveBoth(env, network, settings);
  const commands = relay === undefined
    ? { [OURS]: served[OURS].command, [THEIRS]: served[THEIRS].command }
    : byRelay(encodeTicket({ ...decodeTicket(address), relays: [relay] }));
  const on = await serveRepository(env, network.b, settings);
  const once = (name: Name, warm: Record<string, string> = {}) =>
    dialForByte(env, on, commands[name], { ...settings, ...warm });
  const what = relay === undefined ? "the address" : "the relay alone";
  const warm = new Row(`one byte, ${what} in the ticket`, "ms", 0);
  const cold = new Row("the same with `warm = false`", "ms", 0);
  for (const unmeasured of [() => once(OURS, WARM), () => once(OURS, COLD), () => once(THEIRS)]) {
    await unmeasured();
  }
  for (let run = 0; run < runs; run++) {
    for (const name of inTurn(NAMES, run)) {
      const time = await once(name, WARM);
      warm.add(name, time);
      cold.add(name, name === OURS ? await once(name, COLD) : time);
    }
  }
  return [warm, cold];
}

/** Returns commands that both dial this program, since dumbpipe's listener uses only iroh's public relays. */
function byRelay(ticket: string): Record<Name, string[]> {
  return {
    [OURS]: [OURS, ticket],
    // If the connection's close comes together with the acknowledgement of dumbpipe's last packet, dumbpipe
    // exits with 1. git-annex ignores the exit status.
    [THEIRS]: ["sh", "-c", 'dumbpipe connect "$0" || true', ticket],
  };
}

/** Makes and serves a repository in which nothing else happens. @returns The host, with the repository as working folder. */
export async function serveRepository(
  env: TestEnv,
  on: Host,
  settings: Record<string, string>,
): Promise<Host> {
  const cwd = await makeRepository(env, on, "repository");
  const options = { on, cwd, env: settings };
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], options)).trim();
  const { path } = new FakeAnnex(env, join(on.dir, "service"), silence);
  const listener = await env.start(["git-annex-p2p-iroh", address, path], options);
  const hasRelay = settings.GIT_ANNEX_P2P_IROH_RELAY !== "none";
  await listener.says(hasRelay ? /reachable through relay/ : /serving endpoint/);
  return { ...on, dir: cwd };
}

/**
 * Measures `git annex sync` between two served repositories without changes. A remote over plain TCP, with
 * socat, shows how much of the time is the network's and git-annex's.
 */
async function benchSync(env: TestEnv, runs: number): Promise<Omit<Table, "title">> {
  const { hostA, hostB, a, b, socket } = await makeAnnexes(env, "lan, long cable");
  const listen = `TCP-LISTEN:${PLAIN_PORT},fork,nodelay`;
  await env.start(["socat", listen, `UNIX-CONNECT:${socket}`], { on: hostA });
  await helper(hostB, PLAIN, `exec socat - TCP:${hostA.ip}:${PLAIN_PORT},nodelay`);
  await b.enable();
  await b.serve();

  const [address, token] = split(await a.addresses());
  const remotes = {
    [OURS]: `p2p-annex::iroh:${await withDirectAddress(hostA, address)}`,
    [THEIRS]: `p2p-annex::dumbpipe:${address}`,
    [PLAIN]: `p2p-annex::${PLAIN}:${address}`,
  };
  await a.write("file", new TextEncoder().encode("content"));
  await a.add();
  const names = Object.keys(remotes) as (keyof typeof remotes)[];
  const sync = async (name: keyof typeof remotes, settings = {}) => {
    const begin = performance.now();
    await env.ok(["timeout", SYNC_TIMEOUT_S, "git", "annex", "sync", "--quiet", name], {
      on: hostB,
      cwd: b.path,
      env: settings,
    });
    return (performance.now() - begin) / 1000;
  };
  for (const name of names) await b.link(name, `${remotes[name]}:${token}\n`);
  // Repeated, since a fetch with new data may hang, over any transport.
  await env.until("both repositories to be the same", async () => {
    await b.run(["sync", "--quiet", "--allow-unrelated-histories", OURS]);
    await a.ok(["merge", "--quiet"]);
    return await a.refs() === await b.refs();
  });
  for (const name of names) await sync(name);

  const warm = new Row("whole command", "s", 2);
  const cold = new Row("the same with `warm = false`", "s", 2);
  for (let run = 0; run < runs; run++) {
    for (const name of inTurn(names, run)) {
      const time = await sync(name, WARM);
      warm.add(name, time);
      cold.add(name, name === OURS ? await sync(name, COLD) : time);
    }
  }
  if (await a.refs() !== await b.refs()) throw new Error("there was something to sync");
  const note = `Over plain TCP, by socat: ${warm.of(PLAIN)!.toFixed(2)} s`;
  return { rows: [warm, cold], note };
}

/** Measures a listener with peers that git-annex has admitted and that then do nothing. */
async function benchIdle(env: TestEnv): Promise<Row[]> {
  const network = await makeNetwork(env, "lan");
  const { served } = await serveBoth(env, network, {});
  const alone = new Row("memory without peers", "MiB", 0);
  const memory = new Row(`memory with ${IDLE_PEERS} peers`, "MiB", 0);
  const cpu = new Row(`CPU over ${IDLE_MS / 1000} s, of a core`, "%", 2);
  for (const [name, alpn] of [[OURS, MUX_ALPN], [THEIRS, DUMBPIPE_ALPN]] as const) {
    const { command, pid } = served[name];
    alone.add(name, await memoryOf(pid));
    const script = join(import.meta.dirname!, "idle_peers.ts");
    const args = [command.at(-1)!, alpn, `${IDLE_PEERS}`];
    const peers = await env.start([Deno.execPath(), "run", "--allow-all", script, ...args], {
      on: network.b,
    });
    await peers.says(/all are in/);
    const before = await usage(pid);
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    if (peers.code !== undefined) throw new Error(`not all stayed: ${peers.stderr}`);
    cpu.add(name, ((await usage(pid)).cpuSeconds - before.cpuSeconds) * 100_000 / IDLE_MS);
    memory.add(name, await memoryOf(pid));
    peers.kill("SIGKILL");
    await peers.ended;
  }
  return [alone, memory, cpu];
}
