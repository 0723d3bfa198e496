/** `git annex get` with this program, with dumbpipe, and with git-annex's unix socket itself. */

import { join } from "node:path";
import { Annex } from "../../tests/annex.ts";
import { makeNetwork, type Topology } from "../../tests/network.ts";
import { dumbpipeListener, randomBytes, withDirectAddress } from "../../tests/pair.ts";
import type { Host, TestEnv } from "../../tests/testenv.ts";
import { inTurn, Row } from "./table.ts";

const PIECE_BYTES = 64 << 20;
const GET_LIMIT_S = "600";

/** The ways from `b` to `a`: this program, dumbpipe, and git-annex's unix socket without a network. */
export const REMOTES = ["git-annex-p2p-iroh", "dumbpipe", "unix-socket"] as const;

/** Seconds of each, in turn. */
export async function benchAnnex(env: TestEnv, runs: number, bytes: number): Promise<Row> {
  const annexes = await makeAnnexes(env, "lan");
  const { hostB, a, b } = annexes;
  const file = await Deno.open(join(a.path, "big"), { write: true, createNew: true });
  const writer = file.writable.getWriter();
  for (let left = bytes; left > 0; left -= PIECE_BYTES) {
    await writer.write(randomBytes(Math.min(left, PIECE_BYTES)));
  }
  await writer.close();
  await linkEachWay(annexes);

  const row = new Row("whole command", "s", 2);
  for (let run = 0; run < runs; run++) {
    for (const name of inTurn(REMOTES, run)) {
      const begin = performance.now();
      const command = ["timeout", GET_LIMIT_S, "git", "annex", "get", "--quiet", "big"];
      await env.ok([...command, `--from=${name}`], { on: hostB, cwd: b.path });
      row.add(name, (performance.now() - begin) / 1000);
      const { size } = await Deno.stat(join(b.path, "big"));
      if (size !== bytes) throw new Error(`${name}: ${size} bytes`);
      await b.ok(["drop", "--quiet", "--force", "big"]);
    }
  }
  return row;
}

/** Adds the files of `a`, makes `a` a remote of `b` by each of {@linkcode REMOTES}, and fetches what there is. */
export async function linkEachWay({ hostA, hostB, a, b, socket }: Annexes): Promise<void> {
  await helper(hostB, "socket", `exec socat -b 262144 - UNIX-CONNECT:${socket}`);
  const [address, token] = split(await a.addresses());
  const addresses: Record<typeof REMOTES[number], string> = {
    "git-annex-p2p-iroh": `p2p-annex::iroh:${await withDirectAddress(hostA, address)}`,
    dumbpipe: `p2p-annex::dumbpipe:${address}`,
    "unix-socket": `p2p-annex::socket:${address}`,
  };
  for (const name of REMOTES) await b.link(name, `${addresses[name]}:${token}\n`);
  await a.add();
  // From its folder: a fetch through git-annex hangs now and then, whatever carries it.
  await b.gitOk(["fetch", "-q", a.path, "+refs/heads/*:refs/remotes/unix-socket/*"]);
  await b.gitOk(["merge", "-q", "--allow-unrelated-histories", "unix-socket/main"]);
  await b.ok(["merge", "--quiet"]);
}

/** A repository on each host. */
export interface Annexes {
  readonly hostA: Host;
  readonly hostB: Host;
  readonly a: Annex;
  readonly b: Annex;
  /** By which git-annex serves `a`. */
  readonly socket: string;
}

/** Makes them, the first served by this program and by dumbpipe. */
export async function makeAnnexes(env: TestEnv, topology: Topology): Promise<Annexes> {
  const { a: hostA, b: hostB } = await makeNetwork(env, topology);
  const a = await Annex.make(env, hostA), b = await Annex.make(env, hostB);
  await a.enable();
  await a.serve();
  const socket = await socketOf(env);
  const { ticket } = await dumbpipeListener(env, hostA, socket);
  await helper(hostB, "dumbpipe", `exec dumbpipe connect ${ticket}`);
  return { hostA, hostB, a, b, socket };
}

/** The socket that git-annex has told the listener. */
async function socketOf(env: TestEnv): Promise<string> {
  for (const pid of await env.marked()) {
    const args = (await Deno.readTextFile(`/proc/${pid}/cmdline`)).split("\0").slice(0, -1);
    if (/^endpoint[a-z2-7]+$/.test(args.at(-2) ?? "")) {
      return await Deno.realPath(join(await Deno.readLink(`/proc/${pid}/cwd`), args.at(-1)!));
    }
  }
  throw new Error("there is no listener");
}

/** A network of git-annex's for which connecting is always the same command. */
export async function helper(host: Host, network: string, command: string): Promise<void> {
  const path = join(host.dir, "bin", `git-annex-p2p-${network}`);
  await Deno.writeTextFile(path, `#!/bin/sh\n${command}\n`, { mode: 0o755 });
}

/** `p2p-annex::iroh:ADDRESS:TOKEN` */
export function split(addresses: string): [address: string, token: string] {
  const parts = addresses.trim().split(":");
  return [parts.at(-2)!, parts.at(-1)!];
}
