/**
 * Measures what people do every day: short calls of git-annex, each of which starts this program several
 * times. The process goes through the listener of its repository.
 */

import { cpus } from "node:os";
import { join } from "node:path";
import type { Annex } from "../../tests/annex.ts";
import { makeNetwork, type Topology } from "../../tests/network.ts";
import type { Host, TestEnv } from "../../tests/testenv.ts";
import { type Annexes, linkEachWay, makeAnnexes } from "./annex.ts";
import { inEnv } from "./environment.ts";
import { inTurn, type Remote, REMOTES, remotesTable, Row } from "./table.ts";
import { dialForByte, serveBoth } from "./traffic.ts";
import { serveRepository } from "./warm.ts";

/** Timeout for a command. A fetch or push may hang or fail, over any transport; it is then not counted. */
const COMMAND_TIMEOUT_S = "20";
/** Maximum number of commands that are not counted, in one table. Each of ten runs may meet with several. */
const MAX_FAILURES = 100;
const BENCH_TIMEOUT_MS = 60 * 60_000;
const FILE = "small file";
const PLACES = ["lan", "lan, long cable"] as const;

/** Yields each table as soon as it is measured: a LAN and a round trip of 50 ms, quiet and busy. */
export async function* benchEveryday(
  runs: number,
): AsyncGenerator<{ title: string; markdown: string }> {
  for (const isBusy of [false, true]) {
    for (const topology of PLACES) {
      const where = topology === "lan" ? "on a LAN" : "round trip of 50 ms";
      const rows: Row[] = [];
      for (const measure of [measureByte, measureAnnex]) {
        const measured = inEnv(BENCH_TIMEOUT_MS, (env) => measure(env, topology, isBusy, runs));
        rows.push(...await measured);
      }
      const title = `Every day, ${where}${isBusy ? ", all cores busy" : ""}, ${runs} runs`;
      yield { title, markdown: remotesTable(rows) };
    }
  }
}

/** Measures whole processes that send a byte and get it back. */
async function measureByte(
  env: TestEnv,
  topology: Topology,
  isBusy: boolean,
  runs: number,
): Promise<Row[]> {
  const network = await makeNetwork(env, topology);
  const { served } = await serveBoth(env, network, {});
  const on = await serveRepository(env, network.b, { GIT_ANNEX_P2P_IROH_RELAY: "none" });
  const service = join(network.a.dir, "service");
  const commands: Record<Remote, string[]> = {
    "git-annex-p2p-iroh": served["git-annex-p2p-iroh"].command,
    dumbpipe: served.dumbpipe.command,
    "unix-socket": ["socat", "-", `UNIX-CONNECT:${service}`],
  };
  const row = new Row("one byte", "ms", 0);
  for (const name of REMOTES) await dialForByte(env, on, commands[name], {}); // not measured
  if (isBusy) await keepBusy(env, network.b);
  for (let run = 0; run < runs; run++) {
    for (const name of inTurn(REMOTES, run)) {
      row.add(name, await dialForByte(env, on, commands[name], {}));
    }
  }
  return [row];
}

/** Measures git-annex's commands. */
async function measureAnnex(
  env: TestEnv,
  topology: Topology,
  isBusy: boolean,
  runs: number,
): Promise<Row[]> {
  const annexes = await makeAnnexes(env, topology);
  const { hostB, a, b } = annexes;
  await b.enable();
  await b.serve();
  await a.write(FILE, new TextEncoder().encode("content\n"));
  await linkEachWay(annexes);
  const timing = new Timing(annexes);
  const sync = async (name: Remote, prepare = () => Promise.resolve()) => {
    let wanted = "";
    return await timing.of(
      ["sync", "--no-content", name],
      async () => await isPushed(annexes) && await isFetched(b, wanted),
      async () => {
        wanted = (await a.gitOk(["rev-parse", "git-annex"])).trim();
        await prepare();
      },
    );
  };
  for (const name of REMOTES) await sync(name);
  if (isBusy) await keepBusy(env, hostB);

  const commit = new Row("git annex sync, one commit", "s", 3);
  const none = new Row("git annex sync, no changes", "s", 3);
  const get = new Row("git annex get of a small file", "s", 3);
  const copy = new Row("git annex copy --to of a small file", "s", 3);
  for (let run = 0; run < runs; run++) {
    for (const name of inTurn(REMOTES, run)) {
      const makeCommit = async () => {
        await b.gitOk(["commit", "-q", "--allow-empty", "-m", "a commit"]);
      };
      commit.add(name, await sync(name, makeCommit));
      // What a failed push has left is not measured.
      none.add(name, await sync(name));
      get.add(name, await timing.of(["get", `--from=${name}`, FILE], () => isIn(b)));
      await a.ok(["drop", "--quiet", "--force", FILE]);
      copy.add(name, await timing.of(["copy", `--to=${name}`, FILE], () => isIn(a)));
      await b.ok(["drop", "--quiet", "--force", FILE]);
    }
  }
  return [commit, none, get, copy];
}

/** Runs git-annex in `b`, and measures commands that have the wanted effect. */
class Timing {
  #b: Annex;
  #failures = 0;

  constructor({ b }: Annexes) {
    this.#b = b;
  }

  /**
   * Returns the seconds that a command takes.
   *
   * @param isDone Tells whether it had its effect.
   * @param prepare Called before each attempt.
   */
  async of(
    args: readonly string[],
    isDone: () => Promise<boolean>,
    prepare: () => Promise<unknown> = () => Promise.resolve(),
  ): Promise<number> {
    const { env, host, path } = this.#b;
    const command = ["timeout", COMMAND_TIMEOUT_S, "git", "annex", ...args, "--quiet"];
    for (;;) {
      await prepare();
      const begin = performance.now();
      const { code } = await (await env.start(command, { on: host, cwd: path })).ended;
      const seconds = (performance.now() - begin) / 1000;
      if (code === 0 && await isDone()) return seconds;
      if (++this.#failures > MAX_FAILURES) throw new Error(`${command.join(" ")} fails too often`);
    }
  }
}

/** Tells whether the main branch of `b` has arrived in `a`. */
async function isPushed({ a, b }: Annexes): Promise<boolean> {
  const heads = await a.gitOk(["for-each-ref", "--format=%(objectname)", "refs/heads"]);
  return heads.includes(await b.gitOk(["rev-parse", "main"])); // as `main` or as `synced/main`
}

/** Tells whether `b` knows what `a` has noted, up to this commit. If a fetch fails, `sync` goes on, and exits with 0. */
async function isFetched(b: Annex, commit: string): Promise<boolean> {
  return (await b.git(["merge-base", "--is-ancestor", commit, "git-annex"])).code === 0;
}

async function isIn({ path }: Annex): Promise<boolean> {
  return await Deno.stat(join(path, FILE)).then(() => true, () => false);
}

/** Starts a process on each core that computes until the end of the measurement. */
async function keepBusy(env: TestEnv, on: Host): Promise<void> {
  for (const _ of cpus()) await env.start(["sh", "-c", "while :; do :; done"], { on });
}
