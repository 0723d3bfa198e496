/** Measures `git annex get` with this program, with dumbpipe, and over git-annex's unix socket itself. */

import { join } from "node:path";
import { Annex } from "../../tests/annex.ts";
import { makeNetwork, type Topology } from "../../tests/network.ts";
import { dumbpipeListener, randomBytes, withDirectAddress } from "../../tests/pair.ts";
import type { Host, TestEnv } from "../../tests/testenv.ts";
import { inTurn, type Remote, REMOTES, Row } from "./table.ts";

/** Bytes of the file that are made at a time. */
const PIECE_BYTES = 64 << 20;
const GET_TIMEOUT_S = "600";

/** Measures the seconds of each remote, in turn. */
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
      const command = ["timeout", GET_TIMEOUT_S, "git", "annex", "get", "--quiet", "big"];
      await env.ok([...command, `--from=${name}`], { on: hostB, cwd: b.path });
      row.add(name, (performance.now() - begin) / 1000);
      const { size } = await Deno.stat(join(b.path, "big"));
      if (size !== bytes) throw new Error(`${name}: ${size} bytes`);
      await b.ok(["drop", "--quiet", "--force", "big"]);
    }
  }
  return row;
}

/** Adds the files of `a`, adds {@linkcode REMOTES} to `b`, and fetches the git history. */
export async function linkEachWay({ hostA, hostB, a, b, socket }: Annexes): Promise<void> {
  await helper(hostB, "socket", `exec socat -b 262144 - UNIX-CONNECT:${socket}`);
  const [address, token] = split(await a.addresses());
  const addresses: Record<Remote, string> = {
    "git-annex-p2p-iroh": `p2p-annex::iroh:${await withDirectAddress(hostA, address)}`,
    dumbpipe: `p2p-annex::dumbpipe:${address}`,
    "unix-socket": `p2p-annex::socket:${address}`,
  };
  for (const name of REMOTES) await b.link(name, `${addresses[name]}:${token}\n`);
  await a.add();
  // From the folder of `a`, since a fetch through git-annex may hang, over any transport.
  await b.gitOk(["fetch", "-q", a.path, "+refs/heads/*:refs/remotes/unix-socket/*"]);
  await b.gitOk(["merge", "-q", "--allow-unrelated-histories", "unix-socket/main"]);
  await b.ok(["merge", "--quiet"]);
}

/** Two repositories, each on its host. */
export interface Annexes {
  readonly hostA: Host;
  readonly hostB: Host;
  readonly a: Annex;
  readonly b: Annex;
  /** Path of the unix socket of git-annex in `a`. */
  readonly socket: string;
}

/** Makes the repositories. This program and dumbpipe serve `a`. */
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

/** Returns the path of the unix socket that git-annex gave to the listener. */
async function socketOf(env: TestEnv): Promise<string> {
  for (const pid of await env.marked()) {
    const args = (await Deno.readTextFile(`/proc/${pid}/cmdline`)).split("\0").slice(0, -1);
    if (/^endpoint[a-z2-7]+$/.test(args.at(-2) ?? "")) {
      return await Deno.realPath(join(await Deno.readLink(`/proc/${pid}/cwd`), args.at(-1)!));
    }
  }
  throw new Error("no listener runs");
}

/** Adds a P2P network to git-annex. To connect, it runs `command`, whatever the address. */
export async function helper(host: Host, network: string, command: string): Promise<void> {
  const path = join(host.dir, "bin", `git-annex-p2p-${network}`);
  await Deno.writeTextFile(path, `#!/bin/sh\n${command}\n`, { mode: 0o755 });
}

/** Splits `p2p-annex::iroh:ADDRESS:TOKEN`. */
export function split(addresses: string): [address: string, token: string] {
  const parts = addresses.trim().split(":");
  return [parts.at(-2)!, parts.at(-1)!];
}
