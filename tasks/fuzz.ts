/**
 * deno task fuzz [--seconds N] [--seed S] [--only NAME]
 *
 * Gives random input to everything that reads what comes from outside: see tests/fuzz/. Prints the seed of each
 * failure. `--seed` with `--only` begins with that very input.
 */

import { parseArgs } from "node:util";
import fc from "fast-check";
import { controlTargets } from "../tests/fuzz/control.ts";
import { decoderTargets } from "../tests/fuzz/decoders.ts";
import { localNetworkTargets } from "../tests/fuzz/local_network.ts";
import { pairingTargets } from "../tests/fuzz/pairing.ts";
import { sessionTargets } from "../tests/fuzz/sessions.ts";
import type { FuzzTarget } from "../tests/fuzz/target.ts";

/** Duration of a run: what CI spends. */
const SECONDS = 30;
/** Timeout for one input. The slowest takes some 100 ms if other programs keep the processors busy. */
const INPUT_TIMEOUT_MS = 20_000;

/** How long to try, and what. */
export interface FuzzOptions {
  readonly seconds: number;
  readonly seed: number;
}

/**
 * Tries each target in turn until the time is over, each at least once.
 *
 * @returns The target that failed, the seed of that round, and why; undefined if none failed.
 */
export async function fuzz(
  targets: readonly FuzzTarget[],
  { seconds, seed }: FuzzOptions,
  print: (line: string) => void = console.log,
): Promise<{ name: string; seed: number; message: string } | undefined> {
  const until = performance.now() + 1000 * seconds, inputs = new Map<string, number>();
  for (let round = 0; round === 0 || performance.now() < until; round++) {
    for (const target of targets) {
      if (round > 0 && performance.now() >= until) break;
      const message = await failureOf(target, seed + round);
      if (message !== undefined) return { name: target.name, seed: seed + round, message };
      inputs.set(target.name, (inputs.get(target.name) ?? 0) + target.inputs);
    }
  }
  for (const [name, count] of inputs) print(`${name}: ${count} inputs`);
  return undefined;
}

/** Tries one round of a target. An error that no code handles is a failure, too. */
async function failureOf(
  { property, inputs }: FuzzTarget,
  seed: number,
): Promise<string | undefined> {
  const unhandled = Promise.withResolvers<string>(), heard = new AbortController();
  addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    unhandled.resolve(`an error that no code handles: ${event.reason?.stack ?? event.reason}`);
  }, { signal: heard.signal });
  const checked = Promise.resolve(fc.check(property as fc.IAsyncProperty<unknown>, {
    seed,
    numRuns: inputs,
    timeout: INPUT_TIMEOUT_MS,
    interruptAfterTimeLimit: inputs * INPUT_TIMEOUT_MS,
    markInterruptAsFailure: true,
  })).then((run) => run.failed ? `${fc.defaultReportMessage(run)}\n${stackOf(run)}` : undefined);
  try {
    return await Promise.race([checked, unhandled.promise]);
  } finally {
    heard.abort();
  }
}

function stackOf({ errorInstance }: fc.RunDetails<unknown>): string {
  return errorInstance instanceof Error ? errorInstance.stack ?? "" : String(errorInstance);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      seconds: { type: "string", default: `${SECONDS}` },
      seed: { type: "string", default: `${crypto.getRandomValues(new Int32Array(1))[0]! >>> 1}` },
      only: { type: "string" },
    },
  });
  const all = [
    ...decoderTargets,
    ...localNetworkTargets,
    ...sessionTargets,
    ...controlTargets,
    ...pairingTargets,
  ];
  const targets = all.filter(({ name }) => (values.only ?? name) === name);
  const seconds = Number(values.seconds), seed = Number(values.seed);
  if (targets.length === 0 || !(seconds > 0) || !Number.isSafeInteger(seed)) {
    console.error(`usage: deno task fuzz [--seconds N] [--seed S] [--only NAME]`);
    console.error(`names: ${all.map(({ name }) => name).join(", ")}`);
    return 2;
  }
  console.log(`fuzz: seed ${seed}, ${seconds} s`);
  const runtimeFolder = await Deno.makeTempDir({ prefix: "p2p-iroh-fuzz-" });
  Deno.env.set("XDG_RUNTIME_DIR", runtimeFolder); // and not that of the user, who may run listeners
  const failure = await fuzz(targets, { seconds, seed })
    .finally(() => Deno.remove(runtimeFolder, { recursive: true }));
  if (!failure) return 0;
  console.error(failure.message);
  console.error(`fuzz: ${failure.name} failed; to see it again:`);
  console.error(`deno task fuzz --only ${failure.name} --seed ${failure.seed}`);
  return 1;
}

if (import.meta.main) Deno.exit(await main());
