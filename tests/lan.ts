/** What tests of a local network share: peers that find each other on it, and hosts that send wrong answers. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { makeNetwork, type Topology } from "./network.ts";
import { AUTH_SUCCESS, echo, FakeAnnex, makeRepository } from "./pair.ts";
import type { Host, Run, Started, TestEnv } from "./testenv.ts";
import { python } from "./tools.ts";

export const LAN_TOOLS = ["namespaces"] as const;
export const LAN = { GIT_ANNEX_P2P_IROH_LAN: "true" };

/** A repository that a listener serves on `a`; `b` knows only its bare address. */
export interface Neighbours {
  readonly a: Host;
  readonly b: Host;
  /** A third host on the same network, on which no program runs. */
  readonly third: Host;
  readonly address: string;
  readonly fakeAnnex: FakeAnnex;
  readonly listener: Started;
  dial(options?: { stdin?: string | "open"; env?: Record<string, string> }): Promise<Started>;
}

export async function makeNeighbours(
  env: TestEnv,
  topology: Topology = "lan",
  handle = echo,
): Promise<Neighbours> {
  const { a, b, relay: third } = await makeNetwork(env, topology);
  for (const host of [a, b]) Object.assign(host.env, LAN);
  const cwd = await makeRepository(env, a, "repository");
  const fakeAnnex = new FakeAnnex(env, join(a.dir, "socket"), handle);
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd })).trim();
  const listener = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], { on: a, cwd });
  await listener.says(/serving endpoint/);
  return {
    a,
    b,
    third,
    address,
    fakeAnnex,
    listener,
    dial: ({ stdin = "hello\n", env: more = {} } = {}) =>
      env.start(["git-annex-p2p-iroh", address], { on: b, stdin, env: more }),
  };
}

export function assertEchoed({ code, stdout, stderr }: Run): void {
  assert.deepEqual([code, stdout, stderr], [0, `${AUTH_SUCCESS}hello\n`, ""]);
}

/** Returns an endpoint's label in DNS: its key in base32, as tickets encode it. */
export function instanceOf(address: string): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
  let bits = "";
  for (const byte of decodeTicket(address).publicKey) bits += byte.toString(2).padStart(8, "0");
  return bits.match(/.{1,5}/g)!.map((five) => alphabet[parseInt(five.padEnd(5, "0"), 2)]).join("");
}

/** Returns the number of IPv4 datagrams that have come to programs on a host, also of those that were too slow. */
export async function datagramsReceived(env: TestEnv, on: Host): Promise<number> {
  const counts = await env.ok(["grep", "^Udp: [0-9]", "/proc/net/snmp"], { on });
  const [, taken, , dropped] = counts.split(" ").map(Number);
  return taken! + dropped!;
}

/** Sends wrong addresses of an endpoint from many senders, until the end of the test. */
export async function lieFromMany(
  env: TestEnv,
  on: Host,
  address: string,
  { senders, lies, wrong = "" }: { senders: number; lies: number; wrong?: string },
): Promise<Started> {
  const aliases = Array.from({ length: senders }, (_, i) => `10.77.0.${100 + i}/24`);
  const add = aliases.map((alias) => `ip addr add ${alias} dev br0`).join(" && ");
  await env.ok(["sh", "-c", add], { on });
  const args = [instanceOf(address), `${senders}`, `${lies}`, wrong];
  const crowd = await env.start(python("mdns_crowd.py", ...args), { on });
  await crowd.says(/lying/);
  return crowd;
}

/** Waits until an ear hears nothing; a listener repeats each announcement after a second. */
export async function untilQuiet(env: TestEnv, ear: Started): Promise<void> {
  let heard = "", since = performance.now();
  await env.until("silence", () => {
    if (ear.stdout !== heard) [heard, since] = [ear.stdout, performance.now()];
    return performance.now() - since > 2_500;
  });
}

/** Returns the first text that matches `pattern` and that an ear hears after `cause`. */
export async function hearsNext(
  env: TestEnv,
  ear: Started,
  pattern: RegExp,
  cause: () => Promise<unknown>,
): Promise<string> {
  await untilQuiet(env, ear);
  const before = ear.stdout.length;
  await cause();
  const fresh = () => pattern.exec(ear.stdout.slice(before))?.[0];
  await env.until(`${pattern}`, () => fresh() !== undefined);
  return fresh()!;
}

export async function changeAddress(
  env: TestEnv,
  on: Host,
  from: string,
  to: string,
): Promise<void> {
  await env.ok(["ip", "addr", "del", `${from}/24`, "dev", "eth0"], { on }); // which also removes the route
  await env.ok(["ip", "addr", "add", `${to}/24`, "dev", "eth0"], { on });
  await env.ok(["ip", "route", "add", "default", "via", "10.77.0.254"], { on });
}

export async function listenToMulticast(
  env: TestEnv,
  on: Host,
  ...where: string[]
): Promise<Started> {
  const ear = await env.start(python("mdns_ear.py", ...where), { on });
  await ear.says(/ready/);
  return ear;
}
