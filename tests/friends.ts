/** Repositories of friends, each served by a listener. */

import { join } from "node:path";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { makeLoopback } from "./network.ts";
import { echo, FakeAnnex, makeRepository, withDirectAddress } from "./pair.ts";
import type { Host, Started, StartOptions, TestEnv } from "./testenv.ts";

/** A repository with its listener. */
export interface Friend {
  readonly host: Host;
  readonly repository: string;
  readonly fakeAnnex: FakeAnnex;
  readonly address: string;
  /** The first ten digits of its key, as in logs. */
  readonly key: string;
  listener: Started;
  /** Returns the address with the listener's present port in it. */
  at(): Promise<string>;
  listen(options?: StartOptions): Promise<Started>;
  /** Starts a process in its repository that connects to an address. */
  connect(address: string, options?: StartOptions): Promise<Started>;
  log(): Promise<string>;
}

export async function makeFriend(
  env: TestEnv,
  host: Host,
  handle: (connection: Deno.UnixConn) => Promise<void> = echo,
  name = "repository",
): Promise<Friend> {
  const repository = await makeRepository(env, host, name);
  const fakeAnnex = new FakeAnnex(env, join(host.dir, `${name}-socket`), handle);
  const on = { on: host, cwd: repository };
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], on)).trim();
  const key = decodeTicket(address).publicKey.toHex().slice(0, 10);
  const listen = async (options: StartOptions = {}) => {
    const command = ["git-annex-p2p-iroh", address, fakeAnnex.path];
    const listener = await env.start(command, {
      ...on,
      ...options,
      env: { GIT_ANNEX_P2P_IROH_LOG: "debug", ...options.env },
    });
    await listener.says(/serving endpoint/);
    return listener;
  };
  return {
    host,
    repository,
    fakeAnnex,
    address,
    key,
    listener: await listen(),
    at: () => withDirectAddress(host, address),
    listen,
    connect: (address, options = {}) =>
      env.start(["git-annex-p2p-iroh", address], {
        ...on,
        ...options,
        env: { GIT_ANNEX_P2P_IROH_LOG: "debug", ...options.env },
      }),
    log: () => Deno.readTextFile(join(repository, ".git/annex/p2p-iroh/log")),
  };
}

/** Makes two friends on the test's own loopback. */
export async function makeFriends(
  env: TestEnv,
  handle?: (connection: Deno.UnixConn) => Promise<void>,
): Promise<[Friend, Friend]> {
  const { a, b } = await makeLoopback(env);
  return [await makeFriend(env, a, handle), await makeFriend(env, b, handle)];
}
