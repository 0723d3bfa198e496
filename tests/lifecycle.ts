/** What tests of the end of a listener share. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { AUTH_SUCCESS, type Pair } from "./pair.ts";
import type { Started, TestEnv } from "./testenv.ts";

/** Returns the names of the files that a listener keeps while it runs. */
export async function traces(pair: Pair): Promise<string[]> {
  const entries = Deno.readDir(join(pair.network.a.env.XDG_RUNTIME_DIR!, "git-annex-p2p-iroh"));
  const kept = Deno.readDir(join(pair.repository, ".git/annex/p2p-iroh"));
  const names = [...await Array.fromAsync(entries), ...await Array.fromAsync(kept)];
  // Its log, and when peers were last seen, outlive it.
  return names.map(({ name }) => name).filter((name) => !/^(log|peers\.json)$/.test(name));
}

export async function exchange(pair: Pair): Promise<void> {
  const run = await (await pair.connect({ stdin: "hello\n" })).ended;
  assert.deepEqual([run.code, run.stdout, run.stderr], [0, `${AUTH_SUCCESS}hello\n`, ""]);
}

/** Starts a listener under a parent that a test can kill. */
export async function listenUnder(
  env: TestEnv,
  pair: Pair,
): Promise<{ parent: Started; pid: number }> {
  const script = `git-annex-p2p-iroh ${pair.address} ${pair.fakeAnnex.path} & echo pid $!; wait`;
  const parent = await env.start(["sh", "-c", script], {
    on: pair.network.a,
    cwd: pair.repository,
    env: pair.relay ? { GIT_ANNEX_P2P_IROH_RELAY: pair.relay.url } : {},
  });
  const pid = Number(/\d+/.exec(await parent.says(/pid \d+/))![0]);
  await parent.says(/serving endpoint/);
  return { parent, pid };
}
