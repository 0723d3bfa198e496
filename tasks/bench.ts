/**
 * deno task bench [--only SCENARIO,…] [--runs N] [--mebibytes N]
 *
 * Measures this program and dumbpipe in turn, on test hosts, and prints medians and their ratio as Markdown.
 * The hosts are network namespaces, so it needs Linux and root.
 *
 * It needs dumbpipe and iroh-relay on PATH. The scenarios absent, annex, files, everyday and warm also need
 * git-annex and socat. If GIT_ANNEX_P2P_IROH_PROGRAM names a compiled program, it measures that one.
 */

import { cpus } from "node:os";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import {
  closeFirewall,
  limitRate,
  makeNetwork,
  type Network,
  startRelay,
} from "../tests/network.ts";
import { DUMBPIPE_PORT, listenerPort, makeRepository } from "../tests/pair.ts";
import { TestEnv } from "../tests/testenv.ts";
import { benchAbsent, benchSearch } from "./bench/absent.ts";
import { benchAnnex } from "./bench/annex.ts";
import { benchEveryday } from "./bench/everyday.ts";
import { benchDying, benchHoles, benchMoving, losePackets } from "./bench/faults.ts";
import { benchFiles } from "./bench/files.ts";
import { inTurn, NAMES, Row, table } from "./bench/table.ts";
import { type BothServed, dial, forgetPeak, serveBoth, usage, type Verb } from "./bench/traffic.ts";
import { benchWarm } from "./bench/warm.ts";
import { canNameNamespaces, runInSandbox } from "./sandbox.ts";
import { pathWithGitAnnex } from "./tools.ts";

/** Timeout for all scenarios. */
const BENCH_TIMEOUT_MS = 3 * 60 * 60_000;
const MIB = 1 << 20, GIB = 1 << 30;
const LINK_MEGABITS = 100;
/** Data on a path that loses packets, where dumbpipe needs a minute for it. */
const LOSS_MIB = 48;
const LANE_SIZES_KIB = [128, 512, 1024, 2048, 4096, 8192];
const [OURS, THEIRS] = NAMES;

/** How often to measure, and with how many bytes. */
interface Amount {
  readonly runs: number;
  readonly bytes: number;
}

const SCENARIOS: Record<string, (env: TestEnv, amount: Amount) => Promise<void>> = {
  async start(env, { runs }) {
    printTable("One byte there and back, on a LAN", await benchStart(env, runs));
  },
  async lan(env, amount) {
    const network = await makeNetwork(env, "lan");
    const both = await serveBoth(env, network, {});
    printTable("LAN", await benchBulk(env, network, both, amount, ["up", "down", "both"]));
    const still = await benchBulk(env, network, both, { ...amount, runs: 1 }, STALLS);
    printTable("LAN, the reader stands still for 10 s", still.filter(({ unit }) => unit === "MiB"));
  },
  async pays(env, { runs }) {
    say(`\n### When a lane pays, on a LAN\n\n${await benchLaneSizes(env, runs)}`);
  },
  async iroh(env, { runs, bytes }) {
    const network = await makeNetwork(env, "lan");
    const both = await serveBoth(env, network, {});
    const amount = { runs, bytes: Math.ceil(bytes / 32) };
    const verbs = ["up", "down", "both"] as const;
    network.b.env.GIT_ANNEX_P2P_IROH_LANE = "false";
    const alone = await benchBulk(env, network, both, amount, verbs);
    printTable("LAN, by iroh's connection alone (`lane = false`)", alone);
    const { pid, command } = both.served[THEIRS];
    both.served[OURS] = { pid, command: [OURS, command.at(-1)!] };
    printTable(
      "LAN, dumbpipe listens for both",
      await benchBulk(env, network, both, amount, verbs),
    );
  },
  async firewall(env, amount) {
    const network = await makeNetwork(env, "lan");
    const both = await serveBoth(env, network, {});
    await closeFirewalls(network, both);
    printTable(
      "Firewalls at both ends, that of the listener open for its UDP port alone",
      await benchBulk(env, network, both, amount, ["up", "down", "both"]),
    );
  },
  async nat(env, amount) {
    const network = await makeNetwork(env, "nat");
    const relay = await startRelay(env, network.relay);
    for (
      const [host, external] of [[network.a, "203.0.113.1"], [network.b, "203.0.113.2"]] as const
    ) {
      host.env.GIT_ANNEX_P2P_IROH_RELAY = relay.url;
      host.env.GIT_ANNEX_P2P_IROH_EXTERNAL = external;
    }
    const both = await serveBoth(env, network, { GIT_ANNEX_P2P_IROH_RELAY: relay.url });
    both.served[OURS].command[1] = both.address; // the address names the relay alone
    const rows = await benchBulk(env, network, both, amount, ["up", "down", "both"], [OURS]);
    printTable("Both ends behind NATs, with a relay (which dumbpipe has no option for)", rows);
  },
  async slow(env, { runs, bytes }) {
    const network = await makeNetwork(env, "lan");
    const both = await serveBoth(env, network, {});
    await limitRate(LINK_MEGABITS, network.a, network.b);
    const amount = { runs, bytes: Math.ceil(bytes / 8) };
    const rows = await benchBulk(env, network, both, amount, ["up", "down", "both"]);
    printTable(`LAN of ${LINK_MEGABITS} Mbit/s (${LINK_MEGABITS / 8} MB/s)`, rows);
  },
  async far(env, amount) {
    printTable("Round trip of 50 ms", await benchFar(env, amount));
  },
  async farFirewall(env, amount) {
    const rows = await benchFar(env, amount, closeFirewalls);
    printTable("Round trip of 50 ms, firewalls at both ends", rows);
  },
  async loss(env, { runs }) {
    const lossy = (network: Network) => losePackets(env, network);
    const rows = await benchFar(env, { runs, bytes: LOSS_MIB * MIB * 8 }, lossy);
    printTable("Round trip of 50 ms, 1 % of the packets lost each way", rows);
  },
  async holes(env, { runs, bytes }) {
    await sayTable("A path that swallows large packets", benchHoles(env, runs, bytes));
  },
  async moving(env, { runs, bytes }) {
    await sayTable("Hosts that change their addresses", benchMoving(env, runs, bytes));
  },
  async dying(env, { runs, bytes }) {
    await sayTable("Lanes that die", benchDying(env, runs, bytes));
  },
  async annex(env, amount) {
    const row = await benchAnnex(env, amount.runs, amount.bytes);
    printTable(`git annex get of ${amount.bytes / MIB} MiB, on a LAN`, [row]);
    say(`\nOver git-annex's unix socket itself: ${row.of("unix-socket")!.toFixed(1)} s\n`);
  },
  async files(_env, { runs }) {
    for await (const { title, markdown } of benchFiles(runs)) say(`\n### ${title}\n\n${markdown}`);
  },
  async everyday(_env, { runs }) {
    const tables = benchEveryday(runs);
    for await (const { title, markdown } of tables) say(`\n### ${title}\n\n${markdown}`);
  },
  async absent() {
    for await (const { title, markdown } of benchAbsent()) say(`\n### ${title}\n\n${markdown}`);
  },
  async search() {
    const { title, markdown } = await benchSearch();
    say(`\n### ${title}\n\n${markdown}`);
  },
  async warm(_env, { runs }) {
    for await (const { title, rows, note } of benchWarm(runs)) {
      printTable(title, rows);
      if (note) say(`\n${note}`);
    }
  },
};

/** Scenarios that run git-annex. */
const WITH_GIT_ANNEX = ["absent", "annex", "files", "everyday", "warm"];
const STALLS: readonly Verb[] = ["up-stall", "down-stall"];
const VERB_NAMES: Record<Verb, string> = {
  up: "sending",
  down: "receiving",
  both: "both ways at once, each way",
  "up-stall": "sending to a listener whose reader stands still",
  "down-stall": "receiving, standing still",
};

function say(line: string): void {
  // deno-lint-ignore no-console -- a task talks to the terminal
  console.log(line);
}

/** Prints a table under its title. */
function printTable(title: string, rows: readonly Row[]): void {
  say(`\n### ${title}\n\n${table(rows)}`);
}

/** Prints a table under its title, each line as soon as it is measured. */
async function sayTable(title: string, lines: AsyncIterable<string>): Promise<void> {
  say(`\n### ${title}\n`);
  for await (const line of lines) say(line);
}

/** Closes both firewalls but for answers, and at the listeners' host for their UDP ports. */
async function closeFirewalls({ a, b }: Network, { address }: BothServed): Promise<void> {
  await closeFirewall(a, await listenerPort(a, address), DUMBPIPE_PORT);
  await closeFirewall(b);
}

/** Measures with a round trip of 50 ms. @param change Changes the network before. */
async function benchFar(
  env: TestEnv,
  { runs, bytes }: Amount,
  change?: (network: Network, both: BothServed) => Promise<void>,
): Promise<Row[]> {
  const network = await makeNetwork(env, "lan, long cable");
  const both = await serveBoth(env, network, {});
  await change?.(network, both);
  const amount = { runs, bytes: Math.ceil(bytes / 8) };
  return await benchBulk(env, network, both, amount, ["up", "down", "both"]);
}

async function benchStart(env: TestEnv, runs: number): Promise<Row[]> {
  const network = await makeNetwork(env, "lan");
  const relay = await startRelay(env, network.relay);
  const onLan = { GIT_ANNEX_P2P_IROH_LAN: "true" };
  const settings = { ...onLan, GIT_ANNEX_P2P_IROH_RELAY: relay.url };
  const { served, address } = await serveBoth(env, network, settings);
  const print = new Row("printing the address, whole process", "ms", 0);
  const known = new Row("one byte, the address in the ticket", "ms", 0);
  const noLane = new Row("the same with `lane = false`", "ms", 0);
  // dumbpipe's ticket always has the address, so each row has dumbpipe's time with it.
  const found = new Row("one byte, found on the LAN, no relay", "ms", 0);
  const withRelay = new Row("one byte, found on the LAN, relay on", "ms", 0);
  // The default settings, on a network without the internet.
  const unreachable = { ...onLan, GIT_ANNEX_P2P_IROH_RELAY: "n0", GIT_ANNEX_P2P_IROH_LOOKUP: "n0" };
  const offline = new Row(
    "one byte, found on the LAN, iroh's relays and DNS out of reach",
    "ms",
    0,
  );
  const { b } = network, cwd = await makeRepository(env, b, "repository");
  for (let run = 0; run < runs; run++) {
    for (const name of inTurn(NAMES, run)) {
      const command = name === OURS ? [OURS, "address"] : [THEIRS, "generate-ticket"];
      const begin = performance.now();
      await env.ok(command, { on: b, cwd, env: { IROH_SECRET: "00".repeat(32) } });
      print.add(name, performance.now() - begin);
      const once = async (command: readonly string[], settings = {}) =>
        (await dial(env, b, "up", 1, command, settings)).seconds * 1000;
      const time = await once(served[name].command);
      for (const row of [known, noLane, found, withRelay, offline]) {
        if (row === known || name === THEIRS) row.add(name, time);
      }
      if (name === THEIRS) continue;
      noLane.add(name, await once(served[name].command, { GIT_ANNEX_P2P_IROH_LANE: "false" }));
      found.add(name, await once([OURS, address], onLan));
      withRelay.add(name, await once([OURS, address], settings));
      offline.add(name, await once([OURS, address], unreachable));
    }
  }
  return [print, known, noLane, found, withRelay, offline];
}

async function benchBulk(
  env: TestEnv,
  { b }: Network,
  { served }: BothServed,
  { runs, bytes }: Amount,
  verbs: readonly Verb[],
  names: readonly (typeof NAMES)[number][] = NAMES,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const verb of verbs) {
    const what = VERB_NAMES[verb];
    const speed = new Row(`${bytes / MIB} MiB ${what}`, "MB/s", 1);
    const cpuDial = new Row("CPU of the dialing process", "s/GiB", 1);
    const cpuServe = new Row("CPU of the listener", "s/GiB", 1);
    const memoryDial = new Row(`most memory of the dialing process, ${what}`, "MiB", 0);
    const memoryServe = new Row(`most memory of the listener, ${what}`, "MiB", 0);
    for (let run = 0; run < runs; run++) {
      for (const name of inTurn(NAMES, run).filter((name) => names.includes(name))) {
        const { command, pid } = served[name];
        await forgetPeak(pid);
        const before = await usage(pid);
        const { transferSeconds, cpuSeconds, peakMiB } = await dial(env, b, verb, bytes, command);
        const after = await usage(pid);
        const moved = verb === "both" ? 2 * bytes : bytes;
        speed.add(name, bytes / 1e6 / transferSeconds);
        cpuDial.add(name, cpuSeconds * GIB / moved);
        cpuServe.add(name, (after.cpuSeconds - before.cpuSeconds) * GIB / moved);
        memoryDial.add(name, peakMiB);
        memoryServe.add(name, after.peakMiB);
      }
    }
    rows.push(speed, cpuDial, cpuServe, memoryDial, memoryServe);
  }
  return rows;
}

/** Measures whole processes that send a few sizes, with and without a lane. */
async function benchLaneSizes(env: TestEnv, runs: number): Promise<string> {
  const network = await makeNetwork(env, "lan");
  const { served } = await serveBoth(env, network, {});
  const lines = ["| KiB sent | with a lane, ms | `lane = false`, ms |", "| --: | --: | --: |"];
  for (const kibibytes of LANE_SIZES_KIB) {
    const row = new Row("", "", 0);
    for (let run = 0; run < runs; run++) {
      for (const lane of inTurn(["true", "false"], run)) {
        const settings = { GIT_ANNEX_P2P_IROH_LANE: lane };
        const { command } = served[OURS];
        const { seconds } = await dial(env, network.b, "up", kibibytes << 10, command, settings);
        row.add(lane, seconds * 1000);
      }
    }
    const [on, off] = ["true", "false"].map((lane) => row.of(lane)!.toFixed(0));
    lines.push(`| ${kibibytes} | ${on} | ${off} |`);
  }
  return lines.join("\n");
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      only: { type: "string", default: Object.keys(SCENARIOS).join() },
      runs: { type: "string", default: "5" },
      mebibytes: { type: "string", default: "1024" },
      inside: { type: "boolean" },
    },
  });
  if (!values.inside) {
    Deno.chdir(dirname(import.meta.dirname!));
    // The sandbox has no network to install it.
    if (values.only.split(",").some((name) => WITH_GIT_ANNEX.includes(name))) {
      Deno.env.set("PATH", await pathWithGitAnnex(Deno.env.get("PATH") ?? ""));
    }
    const self = [Deno.execPath(), "run", "--allow-all", import.meta.url];
    return await runInSandbox([...self, ...Deno.args, "--inside"], BENCH_TIMEOUT_MS);
  }
  if (!canNameNamespaces()) {
    say("the test hosts need network namespaces; run it as root on Linux");
    return 1;
  }
  const amount = { runs: Number(values.runs), bytes: Number(values.mebibytes) * MIB };
  const wanted = values.only.split(",");
  const unknown = wanted.find((name) => !(name in SCENARIOS));
  if (unknown !== undefined || !(amount.runs >= 1) || !(amount.bytes >= MIB)) {
    say(
      `--only takes ${Object.keys(SCENARIOS).join()}; --runs and --mebibytes take numbers from 1`,
    );
    return 2;
  }
  // Backtraces of errors would cost both programs time and memory.
  Deno.env.set("RUST_BACKTRACE", "0");
  const version = new TextDecoder().decode(
    (await new Deno.Command("dumbpipe", { args: ["--version"] }).output()).stdout,
  ).trim();
  const processors = cpus();
  const program = Deno.env.has("GIT_ANNEX_P2P_IROH_PROGRAM") ? "compiled" : "from source";
  say(`${processors.length} × ${processors[0]?.model}, Linux ${Deno.osRelease()}, Deno`);
  say(`${Deno.version.deno}, ${version}; this program ${program}; medians of ${amount.runs} runs`);
  for (const name of wanted) {
    await using env = await TestEnv.make(BENCH_TIMEOUT_MS);
    try {
      await SCENARIOS[name]!(env, amount);
    } catch (error) {
      env.show();
      say(`cannot measure: ${(error as Error).message}`);
      return 1;
    }
  }
  return 0;
}

if (import.meta.main) Deno.exit(await main());
