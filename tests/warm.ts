/** What tests of processes that go through the listener of their repository share. */

import { newSessionId } from "../lib/protocol/mux.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { type ProxiedSession, requestSession } from "../lib/control/client.ts";
import { type ControlLocator, locateControlSocket } from "../lib/control/locator.ts";
import { splitSocketAddress } from "../lib/platform/socket_address.ts";
import { parseSettings } from "../lib/repository/settings.ts";
import { decodeTicket } from "../lib/repository/ticket.ts";
import type { Friend } from "./friends.ts";
import { AUTH_SUCCESS } from "./pair.ts";
import type { Started, StartOptions } from "./testenv.ts";

export const THROUGH = /ms through the running listener/;
/**
 * What a process says if the listener of its repository is slow, as on a busy machine. Then it also connects by
 * itself, and either may be sooner.
 */
export const SLOW = /no answer within 200 ms/;
/** What a process says once its listener has accepted its request, or is slow. */
const ACCEPTED_OR_SLOW = new RegExp(`${THROUGH.source}|${SLOW.source}`);
/** Maximum number of slow answers in a row. However busy the machine is, more come from the listener itself. */
const MAX_SLOW = 6;

/** Returns what comes back for a text. */
export function answered(text: string): string {
  return AUTH_SUCCESS + text;
}

/** Opens a session through a control server. */
export async function openSession(
  locator: ControlLocator,
  address: string,
  signal: AbortSignal,
): Promise<ProxiedSession> {
  const proxied = await requestSession(
    locator,
    address,
    { id: newSessionId(), isResumed: false },
    signal,
  );
  await proxied.open;
  return proxied;
}

/** Returns the locator of a friend's control socket. */
export function locatorOf({ host, repository }: Friend): ControlLocator {
  const settings = parseSettings("", (name) => host.env[name]);
  const locator = locateControlSocket({ gitDir: join(repository, ".git") }, settings);
  assert(locator);
  return locator;
}

export const DIALING = /\] +[\d.]+ ms dialing/;
/** Time that a dial takes if nothing answers. */
export const DIAL_MS = 8_000;

/** Returns how many dials a debug log tells of. */
export function dialsIn(stderr: string): number {
  return stderr.split(DIALING).length - 1;
}

/**
 * Sends a word through a process, and tells whether the process went through its listener. A process whose listener
 * is slow does not count.
 */
export async function exchange(
  friend: Friend,
  address: string,
  options: StartOptions = {},
): Promise<{ isWarm: boolean; stderr: string }> {
  const { stderr } = await unlessSlow(async () => {
    const run = await (await friend.connect(address, { stdin: "word", ...options })).ended;
    assert.deepEqual([run.code, run.stdout], [0, answered("word")], run.stderr);
    return run;
  });
  const isWarm = THROUGH.test(stderr);
  assert.equal(DIALING.test(stderr), !isWarm, stderr);
  return { isWarm, stderr };
}

/**
 * Repeats what a process does while its listener is slow, at most {@linkcode MAX_SLOW} times: the process may then
 * connect by itself. The output of the tests tells each time.
 *
 * @param discard Ends what is left of a time that does not count.
 */
export async function unlessSlow<Outcome extends { readonly stderr: string }>(
  run: () => Promise<Outcome>,
  discard: (slow: Outcome) => Promise<unknown> = () => Promise.resolve(),
): Promise<Outcome> {
  for (let times = 1; times <= MAX_SLOW; times++) {
    const outcome = await run();
    if (!SLOW.test(outcome.stderr)) return outcome;
    console.log(`  the listener was slow, ${times} times in a row`);
    await discard(outcome);
  }
  assert.fail(`the listener was slow each time, ${MAX_SLOW} times in a row`);
}

/** Starts a process that goes through its listener, unless that is slow: see {@linkcode unlessSlow}. */
export async function connectOrSlow(
  friend: Friend,
  address: string,
  options: StartOptions = {},
): Promise<Started> {
  const process = await friend.connect(address, { stdin: "open", ...options });
  await process.says(ACCEPTED_OR_SLOW);
  return process;
}

/** Starts a process that goes through its listener. One whose listener is slow does not count. */
export function connectThrough(
  friend: Friend,
  address: string,
  options?: StartOptions,
): Promise<Started> {
  return unlessSlow(() => connectOrSlow(friend, address, options), (process) => {
    process.kill("SIGTERM");
    return process.ended;
  });
}

/** Returns the control sockets in the runtime folder of a friend's user, and the locator in the repository. */
export async function controlFiles(friend: Friend): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(folderOf(friend.host))) {
    if (name.endsWith(".control")) names.push(name);
  }
  const path = locatorPathOf(friend);
  return [...names, ...await Deno.lstat(path).then(() => ["locator"], () => [])];
}

export function folderOf({ env }: Friend["host"]): string {
  return join(env.XDG_RUNTIME_DIR!, "git-annex-p2p-iroh");
}

function locatorPathOf({ repository }: Friend): string {
  return join(repository, ".git", "annex", "p2p-iroh", "control");
}

/** Reads the locator file of a friend. */
export async function locatorFileOf(friend: Friend): Promise<{ path: string; text: string }> {
  const path = locatorPathOf(friend);
  return { path, text: await Deno.readTextFile(path) };
}

/** Kills a listener, and holds its port, so that packets to it are neither answered nor refused. */
export async function fallSilent(
  friend: Friend,
): Promise<{ address: string; bind: string; silent: Deno.DatagramConn }> {
  const address = await friend.at(), bind = decodeTicket(address).direct[0]!;
  friend.listener.kill("SIGKILL");
  await friend.listener.ended;
  const { host: hostname, port } = splitSocketAddress(bind);
  const silent = Deno.listenDatagram({ transport: "udp", hostname, port });
  return { address, bind, silent };
}
