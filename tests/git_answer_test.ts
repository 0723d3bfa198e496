/** git notices if the answer of the peer ends too early. A fake git-annex drops the end, as the real one may do. */

import assert from "node:assert/strict";
import { ExactReader } from "../lib/streams/exact_reader.ts";
import { ANNEX_TOOLS } from "./annex.ts";
import { AUTH_SUCCESS, makePair, makeRepository, type Pair } from "./pair.ts";
import { type Run, scenario, type TestEnv } from "./testenv.ts";

/** Timeout for git, which takes less than a second; without the end of the answer it would wait for ever. */
const GIT_TIMEOUT_S = "15";
/** Exit status of timeout(1). */
const TIMED_OUT = 124;

/** What happens to the last answer of `git upload-pack`. */
interface Cut {
  /** Number of bytes that are dropped at its end. */
  readonly bytes: number;
  /** What git-annex says in their place; if nothing, the connection is lost. */
  readonly end: string;
}
const NO_CUT: Cut = { bytes: 0, end: "CONNECTDONE 0\nCONNECTDONE 0\n" };

scenario(
  "git-annex: git notices if the end of the peer's answer is missing",
  { needs: [...ANNEX_TOOLS], limitMs: 90_000 },
  async (env) => {
    let cut = NO_CUT;
    let repository = "";
    const pair = await makePair(
      env,
      "loopback",
      (connection) => serve(connection, repository, () => cut),
    );
    repository = await makeRepository(env, pair.network.a, "served");
    for (const message of ["a commit", "another"]) {
      const commit = ["git", "commit", "-q", "--allow-empty", "-m", message];
      await env.ok(commit, { on: pair.network.a, cwd: repository });
    }
    const clone = (name: string, change: Partial<Cut>, ...options: string[]) => {
      cut = { ...NO_CUT, ...change };
      return runGit(env, pair, ["clone", "-q", ...options, urlOf(pair), name]);
    };

    assert.equal((await clone("all", {})).code, 0);
    // The last packet is missing, which says only that this is the end.
    assert.equal((await clone("flush", { bytes: 4 })).code, 0);
    // The last byte of the pack is missing, too, with its packet or without.
    assert.equal((await clone("byte", { bytes: 5 })).code, 0);
    assert.equal((await clone("packet", { bytes: 10 })).code, 0);
    for (
      const [name, change] of Object.entries({
        data: { bytes: 12 },
        header: { bytes: 2 },
        killed: { bytes: 40, end: "CONNECTDONE -9\n" },
        lost: { bytes: 40, end: "" },
      })
    ) {
      const { code, stderr } = await clone(name, change);
      assert.notEqual(code, 0, name);
      assert.notEqual(code, TIMED_OUT, `${name}: ${stderr}`);
    }
    const nothing = await clone("nothing", { bytes: 1 << 20 });
    assert.match(
      nothing.stderr,
      /remote error: the answer of the peer has ended too early; repeat/,
    );
    const refused = await clone("refused", { bytes: 1 << 20, end: "ERROR not today\n" });
    assert.match(refused.stderr, /remote error: not today/);

    // If there is nothing to push, receive-pack does not answer what git tells of its shallow commits.
    assert.equal((await clone("shallow", {}, "--depth", "1")).code, 0);
    const { code, stderr } = await runGit(env, pair, ["-C", "shallow", "push"]);
    assert.equal(code, 0, stderr);
  },
);

function urlOf({ dialed }: Pair): string {
  return `p2p-annex::iroh:${dialed}`;
}

async function runGit(env: TestEnv, pair: Pair, args: string[]): Promise<Run> {
  const options = { on: pair.network.b, env: { GIT_ANNEX_P2P_AUTHTOKEN: "token" } };
  return await env.run(["timeout", "-k", "2", GIT_TIMEOUT_S, "git", ...args], options);
}

/** Serves a repository as git-annex does. */
async function serve(
  connection: Deno.UnixConn,
  repository: string,
  cut: () => Cut,
): Promise<void> {
  const reader = new ExactReader((buffer) => connection.read(buffer), 1 << 16);
  const writer = connection.writable.getWriter();
  const send = (text: string) => writer.write(new TextEncoder().encode(text));
  const sendData = async (data: Uint8Array) => {
    if (data.length > 0) await send(`DATA ${data.length}\n`).then(() => writer.write(data));
  };
  await readLine(reader); // AUTH
  await send(AUTH_SUCCESS);
  const [, service] = /^CONNECT git-(.*)/.exec(await readLine(reader))!;
  const { bytes, end } = cut();
  const git = new Deno.Command("git", {
    args: [service!, repository],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const requests = git.stdin.getWriter();
  let isLast = false, last = new Uint8Array();
  const answering = (async () => {
    for await (const data of git.stdout) {
      if (isLast) last = new Uint8Array([...last, ...data]);
      else await sendData(data);
    }
    await sendData(last.subarray(0, Math.max(0, last.length - bytes)));
    await send(end);
    connection.close();
  })();
  for (let line; (line = await readLine(reader).catch(() => undefined));) {
    const data = (await reader.read(Number(line.slice("DATA ".length))))!.slice();
    isLast ||= new TextDecoder().decode(data).endsWith("done\n");
    await requests.write(data);
  }
  await answering;
}

async function readLine(reader: ExactReader): Promise<string> {
  for (let line = "";;) {
    const character = new TextDecoder().decode((await reader.read(1))!);
    if (character === "\n") return line;
    line += character;
  }
}
