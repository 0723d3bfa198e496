/** Measures transfers on networks where lanes go wrong. */

import {
  addRule,
  forgetLostLanes,
  makeMtuHole,
  moveHost,
  removeRules,
  rulesForLane,
} from "../../tests/faults.ts";
import { makeNetwork, type Network, startRelay } from "../../tests/network.ts";
import { listenerPort } from "../../tests/pair.ts";
import type { TestEnv } from "../../tests/testenv.ts";
import { inTurn, NAMES, Row } from "./table.ts";
import { type BothServed, dial, serveBoth, type Verb } from "./traffic.ts";

const [OURS, THEIRS] = NAMES;
const MIB = 1 << 20;
const NO_LANE = { GIT_ANNEX_P2P_IROH_LANE: "false" };
const DIRECTIONS = [["up", "sending"], ["down", "receiving"]] as const;
/** Interval between two looks at the bytes of a host, and how many there are in it if data moves. */
const LOOK_MS = 20, MOVING_BYTES = 10_000;

/** Measures a path that swallows large packets. */
export async function* benchHoles(
  env: TestEnv,
  runs: number,
  bytes: number,
): AsyncGenerator<string> {
  const network = await makeNetwork(env, "lan");
  const both = await serveBoth(env, network, {});
  await makeMtuHole(env, network);
  const carriers = ["lane", "lane = false", "QUIC lane alone", "dumbpipe"] as const;
  const measure = async (carrier: typeof carriers[number], verb: Verb, bytes: number) => {
    const { command } = both.served[carrier === "dumbpipe" ? THEIRS : OURS];
    await forgetLostLanes(network.b, both.address);
    const hosts = carrier === "QUIC lane alone" ? [network.a, network.b] : [];
    for (const host of hosts) await addRule(env, host, "-p tcp -j DROP");
    const settings = carrier === "lane = false" ? NO_LANE : {};
    const { seconds } = await dial(env, network.b, verb, bytes, command, settings);
    for (const host of hosts) await removeRules(env, host);
    return seconds;
  };
  yield* header(carriers);
  for (const size of [8_000_000, bytes]) {
    for (const [verb, what] of DIRECTIONS) {
      const row = new Row("", "s", 2);
      for (let run = 0; run < runs; run++) {
        for (const carrier of inTurn(carriers, run)) {
          row.add(carrier, await measure(carrier, verb, size));
        }
      }
      yield line(`${megabytes(size)} ${what}, s`, row, carriers);
    }
  }
}

/** Measures hosts that change their addresses during a transfer. */
export async function* benchMoving(
  env: TestEnv,
  runs: number,
  bytes: number,
): AsyncGenerator<string> {
  const network = await makeNetwork(env, "lan"), { a, b } = network;
  const relay = await startRelay(env, network.relay);
  for (const host of [a, b]) host.env.GIT_ANNEX_P2P_IROH_RELAY = relay.url;
  const both = await serveBoth(env, network, { GIT_ANNEX_P2P_IROH_RELAY: relay.url });
  const carriers = ["lane", "lane = false"] as const;
  yield* header(carriers);
  for (const [verb, what] of DIRECTIONS) {
    const still = new Row("", "s", 1), moved = new Row("", "s", 1);
    const quiet = { b: new Row("", "s", 1), a: new Row("", "s", 1) };
    for (let run = 0; run < runs; run++) {
      for (const carrier of inTurn(carriers, run)) {
        const isLane = carrier === "lane", size = isLane ? bytes : bytes / 16;
        const settings = isLane ? {} : NO_LANE;
        const start = () => {
          const { command } = both.served[OURS];
          return dial(env, b, verb, size, command, settings);
        };
        await forgetLostLanes(b, both.address);
        still.add(carrier, (await start()).seconds);
        await forgetLostLanes(b, both.address);
        const meter = new TrafficWatch(both),
          dialing = start(),
          moves = movement(env, dialing, meter);
        for (const [host, part] of [[b, 0.25], [a, 0.6]] as const) {
          await moves(part * size);
          meter.longestQuiet();
          await moveHost(env, host, host.ip, otherIp(host.ip));
          await moves((part + 0.2) * size);
          quiet[host === a ? "a" : "b"].add(carrier, meter.longestQuiet());
        }
        moved.add(carrier, (await dialing).seconds);
        meter[Symbol.dispose]();
        for (const host of [a, b]) await moveHost(env, host, otherIp(host.ip), host.ip);
      }
    }
    yield line(`nobody moves, ${what}, s`, still, carriers);
    yield line("both hosts move, s", moved, carriers);
    yield line("no data after the dialing host's move, s", quiet.b, carriers);
    yield line("no data after the listening host's move, s", quiet.a, carriers);
  }
  yield `\nWith a lane ${bytes / MIB} MiB, without one ${bytes / 16 / MIB} MiB.`;
}

/** Measures lanes whose packets are dropped in the middle. */
export async function* benchDying(
  env: TestEnv,
  runs: number,
  bytes: number,
): AsyncGenerator<string> {
  const network = await makeNetwork(env, "lan");
  const both = await serveBoth(env, network, {});
  const columns = ["no data for", "the next session", "the same without a loss"];
  yield* header(columns);
  for (const kind of ["TLS", "QUIC"] as const) {
    for (const [verb, what] of DIRECTIONS) {
      for (const to of ["a", "b"] as const) {
        const row = new Row("", "s", 2);
        for (let run = 0; run < runs; run++) await measureDeath(kind, verb, to, row);
        const packets = (to === "a") === (verb === "up") ? "data" : "acknowledgements";
        yield line(`${kind} lane, ${what}, ${packets} dropped, s`, row, columns);
      }
    }
  }

  async function measureDeath(kind: "TLS" | "QUIC", verb: Verb, to: "a" | "b", row: Row) {
    const { command } = both.served[OURS], hosts = [network.a, network.b];
    const port = await listenerPort(network.a, both.address);
    const noTcp = async () => {
      for (const host of hosts) await addRule(env, host, "-p tcp -j DROP");
    };
    const reset = async () => {
      for (const host of hosts) await removeRules(env, host);
      await forgetLostLanes(network.b, both.address);
    };
    const next = async () => (await dial(env, network.b, verb, bytes / 16, command)).seconds;
    await reset();
    if (kind === "QUIC") await noTcp();
    const meter = new TrafficWatch(both);
    const dialing = dial(env, network.b, verb, bytes / 4, command);
    await movement(env, dialing, meter)(bytes / 16);
    meter.longestQuiet();
    for (const rule of rulesForLane(kind, to, port)) await addRule(env, network[to], rule);
    await dialing;
    row.add("no data for", meter.longestQuiet());
    meter[Symbol.dispose]();
    row.add("the next session", await next());
    // What is left after the loss: QUIC, or nothing but iroh's stream.
    await reset();
    await noTcp();
    if (kind === "QUIC") {
      for (const rule of rulesForLane("QUIC", "a", port)) await addRule(env, network.a, rule);
    }
    const settings = kind === "QUIC" ? NO_LANE : {};
    const { seconds } = await dial(env, network.b, verb, bytes / 16, command, settings);
    row.add("the same without a loss", seconds);
    await reset();
  }
}

/** Makes each end of a network lose one packet of a hundred that come to it. */
export async function losePackets(env: TestEnv, { a, b }: Network): Promise<void> {
  for (const host of [a, b]) {
    await addRule(env, host, "-m statistic --mode random --probability 0.01 -j DROP");
  }
}

/** Returns a function that waits until so many bytes have moved, and throws if the process ends before. */
function movement(
  env: TestEnv,
  dialing: Promise<unknown>,
  meter: TrafficWatch,
): (bytes: number) => Promise<void> {
  let failure: unknown;
  dialing.catch((error) => failure = error);
  return (bytes) =>
    env.until("data to move", () => {
      if (failure) throw failure;
      return meter.bytes >= bytes;
    });
}

function otherIp(ip: string): string {
  return `${ip}1`; // 10.77.0.1 and 10.77.0.11
}

/** Watches the bytes that the listener's host receives and sends. Dispose of it when done. */
class TrafficWatch implements Disposable {
  /** Bytes since it was made. */
  bytes = 0;
  readonly #path: string;
  readonly #first: number;
  readonly #timer: ReturnType<typeof setInterval>;
  #movedAt = performance.now();
  #longestMs = 0;

  constructor({ served }: BothServed) {
    this.#path = `/proc/${served[OURS].pid}/net/dev`;
    this.#first = this.#count();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  /** Returns the longest time in seconds without data since the last call. */
  longestQuiet(): number {
    const seconds = this.#longestMs / 1000;
    this.#longestMs = 0;
    return seconds;
  }

  #look(): void {
    const bytes = this.#count() - this.#first, now = performance.now();
    if (bytes - this.bytes >= MOVING_BYTES) {
      this.#longestMs = Math.max(this.#longestMs, now - this.#movedAt);
      this.#movedAt = now;
    }
    this.bytes = bytes;
  }

  #count(): number {
    const fields = /eth0:\s*(.*)/.exec(Deno.readTextFileSync(this.#path))![1]!.split(/\s+/);
    return Number(fields[0]) + Number(fields[8]);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

function* header(columns: readonly string[]): Generator<string> {
  yield `| | ${columns.join(" | ")} |`;
  yield `| --- |${columns.map(() => " --: |").join("")}`;
}

function line(what: string, row: Row, columns: readonly string[]): string {
  return `| ${what} | ${columns.map((name) => row.of(name)!.toFixed(row.digits)).join(" | ")} |`;
}

function megabytes(bytes: number): string {
  return bytes % MIB === 0 ? `${bytes / MIB} MiB` : `${bytes / 1e6} MB`;
}
