/** Measures many small files: git-annex makes a round trip for each. The remotes are those of annex.ts. */

import { randomInt } from "node:crypto";
import { join } from "node:path";
import type { Annex } from "../../tests/annex.ts";
import { randomBytes } from "../../tests/pair.ts";
import { type Annexes, linkEachWay, makeAnnexes } from "./annex.ts";
import { inEnv } from "./environment.ts";
import { inTurn, REMOTES, remotesTable, Row } from "./table.ts";

const FILES = 500;
const MIN_BYTES = 100, MAX_BYTES = 20_000;
/** Values of git-annex's `-J`. */
const JOBS = [1, 4];
const COMMAND_TIMEOUT_S = "900";
const BENCH_TIMEOUT_MS = 3 * 60 * 60_000;

/** Yields each table as soon as it is measured. */
export async function* benchFiles(
  runs: number,
): AsyncGenerator<{ title: string; markdown: string }> {
  for (const topology of ["lan", "lan, long cable"] as const) {
    const where = topology === "lan" ? "on a LAN" : "round trip of 50 ms";
    const rows = await inEnv(
      BENCH_TIMEOUT_MS,
      async (env) => await measure(await makeAnnexes(env, topology), runs),
    );
    const title = `${FILES} small files, ${where}, ${runs} runs`;
    yield { title, markdown: remotesTable(rows) };
  }
}

async function measure(annexes: Annexes, runs: number): Promise<Row[]> {
  const { a, b } = annexes;
  for (let i = 0; i < FILES; i++) {
    await a.write(`file-${i}`, randomBytes(randomInt(MIN_BYTES, MAX_BYTES + 1)));
  }
  await linkEachWay(annexes);
  const rows: Row[] = [];
  for (const jobs of JOBS) {
    const get = new Row(`git annex get -J${jobs}`, "s", 2);
    const copy = new Row(`git annex copy --to -J${jobs}`, "s", 2);
    rows.push(get, copy);
    for (let run = 0; run < runs; run++) {
      for (const name of inTurn(REMOTES, run)) {
        await add(get, b, `get -J${jobs} --from`, name);
        await mustHaveAll(b);
        await a.ok(["drop", "--quiet", "--force", "."]);
        await add(copy, b, `copy -J${jobs} --to`, name);
        await mustHaveAll(a);
        await b.ok(["drop", "--quiet", "--force", "."]);
      }
    }
  }
  return rows;
}

/**
 * Runs a git-annex command and adds its seconds to the row.
 * If another program than this one fails, the run is not counted, and the missing files go by the unix socket.
 */
async function add(row: Row, { env, host, path }: Annex, what: string, name: string) {
  const run = async (name: string) => {
    const args = [...`${what}=${name}`.split(" "), "--quiet", "."];
    const command = ["timeout", COMMAND_TIMEOUT_S, "git", "annex", ...args];
    return (await (await env.start(command, { on: host, cwd: path })).ended).code;
  };
  const begin = performance.now();
  const code = await run(name), seconds = (performance.now() - begin) / 1000;
  if (code === 0) return row.add(name, seconds);
  if (name === REMOTES[0]) throw new Error(`${what}=${name}: exit status ${code}`);
  console.error(`${what}=${name}: exit status ${code}; this run is not counted`);
  if (await run("unix-socket") !== 0) throw new Error(`${what}=unix-socket failed`);
}

async function mustHaveAll({ path, host }: Annex): Promise<void> {
  for (let i = 0; i < FILES; i++) {
    const { size } = await Deno.stat(join(path, `file-${i}`)).catch(() => ({ size: 0 }));
    if (size < MIN_BYTES) throw new Error(`file-${i} is not at ${host.name}`);
  }
}
