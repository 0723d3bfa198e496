/** What tests of relays share. */

import { join } from "node:path";
import { AUTH_SUCCESS, echo, FakeAnnex, makeRepository } from "./pair.ts";
import type { Host, Started, TestEnv } from "./testenv.ts";

/** Starts a listener on `a` with these relays. @returns It, and its address. */
export async function listen(
  env: TestEnv,
  a: Parameters<typeof makeRepository>[1],
  relays: string,
): Promise<{ address: string; listener: Started }> {
  const cwd = await makeRepository(env, a, "repository");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), echo);
  const setting = { GIT_ANNEX_P2P_IROH_RELAY: relays };
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd, env: setting }))
    .trim();
  const serve = ["git-annex-p2p-iroh", address, fakeAnnex.path];
  const listener = await env.start(serve, { on: a, cwd, env: setting });
  await listener.says(/serving endpoint/);
  return { address, listener };
}

/** Waits until a dialer with these relays reaches a peer. */
export async function reachedWith(
  env: TestEnv,
  relays: string,
  { on, address }: { on: Host; address: string },
): Promise<void> {
  await env.until(`the peer to be reached through ${relays}`, async () => {
    const options = { on, stdin: "hello\n", env: { GIT_ANNEX_P2P_IROH_RELAY: relays } };
    const { code, stdout } = await env.iroh([address], options);
    return code === 0 && stdout === `${AUTH_SUCCESS}hello\n`;
  });
}
