/** What goes wrong on networks, and transfers that go on meanwhile. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { decodeTicket } from "../lib/repository/ticket.ts";
import type { Network } from "./network.ts";
import { AUTH_SUCCESS, checksumOf, randomBytes } from "./pair.ts";
import type { Host, Run, Started, TestEnv } from "./testenv.ts";

/** How much is written to stdin at a time. */
const PIECE_BYTES = 64 * 1024;
/** Largest packet that the hosts send, and that a hole lets through. */
const HOLE_MTUS = { host: 1500, hole: 1400 };

/** Adds a rule of iptables to what a host receives. */
export async function addRule(env: TestEnv, on: Host, rule: string): Promise<void> {
  await env.ok(["iptables", "-A", "INPUT", "-i", "eth0", ...rule.split(" ")], { on });
}

/** Removes all rules of a host. */
export async function removeRules(env: TestEnv, on: Host): Promise<void> {
  await env.ok(["iptables", "-F", "INPUT"], { on });
}

/**
 * Makes the path between the hosts of a LAN swallow packets that are larger than a hole lets through, without a
 * word to their sender, as many a VPN does.
 */
export async function makeMtuHole(
  env: TestEnv,
  { a, b, relay }: Network,
  mtus = HOLE_MTUS,
): Promise<void> {
  for (const on of [a, b]) {
    // A packet that the kernel has yet to cut into pieces would get through.
    await env.ok(["ip", "link", "set", "eth0", "mtu", `${mtus.host}`, "gso_max_segs", "1"], { on });
  }
  for (const [port, mtu] of [["to-0", mtus.host], ["to-1", mtus.hole]]) {
    await env.ok(["ip", "link", "set", `${port}`, "mtu", `${mtu}`], { on: relay });
  }
}

/** Gives a host of a LAN another IP address in place of its present one. */
export async function moveHost(env: TestEnv, on: Host, from: string, to: string): Promise<void> {
  const script = [
    `ip addr del ${from}/24 dev eth0`,
    `ip addr add ${to}/24 dev eth0`,
    "ip route replace default via 10.77.0.254",
  ];
  await env.ok(["sh", "-ec", script.join("\n")], { on });
}

/**
 * Rules that drop the packets of a lane on their way to a host, and leave iroh's connection alone.
 *
 * @param to The host of the listener, or the other one.
 * @param port UDP port of the listener's iroh.
 */
export function rulesForLane(kind: "TLS" | "QUIC", to: "a" | "b", port: number): string[] {
  if (kind === "TLS") return ["-p tcp -j DROP"];
  return [`-p udp ! --${to === "a" ? "dport" : "sport"} ${port} -j DROP`];
}

/** Which lanes with a peer a host remembers as lost, such as `TLS 10.77.0.1`. */
export async function lostLanes(host: Host, address: string): Promise<string[]> {
  const text = await Deno.readTextFile(lostLanesPath(host, address)).catch(() => "[]"); // none yet
  const failures: { kind: string; host: string }[] = JSON.parse(text);
  return failures.map(({ kind, host }) => `${kind} ${host}`);
}

/** Makes a host forget which lanes with a peer were lost. */
export async function forgetLostLanes(host: Host, address: string): Promise<void> {
  await Deno.remove(lostLanesPath(host, address)).catch(() => {}); // none was lost
}

function lostLanesPath({ env }: Host, address: string): string {
  const name = `${decodeTicket(address).publicKey.toHex()}.lanes`;
  return join(env.XDG_RUNTIME_DIR!, "git-annex-p2p-iroh", name);
}

/** Data on its way through a connecting process to a peer that sends it back. */
export class EchoedTransfer {
  readonly dialer: Started;
  readonly #env: TestEnv;
  readonly #data: Uint8Array<ArrayBuffer>;
  readonly #hash = createHash("sha256");
  readonly #reading: Promise<void>;
  #written = 0;
  #received = 0;
  #lastAt = performance.now();
  #longestMs = 0;

  /** @param dialer A process that connects, its stdin open and its stdout not collected. */
  constructor(env: TestEnv, dialer: Started, bytes: number) {
    this.#env = env;
    this.dialer = dialer;
    this.#data = randomBytes(bytes);
    this.#reading = this.#read();
  }

  /** Bytes that have come back so far. */
  get received(): number {
    return Math.max(0, this.#received - AUTH_SUCCESS.length);
  }

  /** The longest time without a byte since {@linkcode watch} was called, up to now. */
  get longestMs(): number {
    return Math.max(this.#longestMs, performance.now() - this.#lastAt);
  }

  /** Begins to look for the longest time without a byte. */
  watch(): void {
    this.#longestMs = 0;
    this.#lastAt = performance.now();
  }

  /** Writes to stdin, so many bytes in all. */
  async writeTo(end: number): Promise<void> {
    while (this.#written < end) {
      const piece = this.#data.subarray(this.#written, Math.min(end, this.#written + PIECE_BYTES));
      await this.#env.within(this.dialer.write(piece));
      this.#written += piece.length;
    }
  }

  /** Writes so many bytes in all, and waits until they have come back. */
  async exchangeTo(end: number): Promise<void> {
    await this.writeTo(end);
    await this.#env.until(`${end} bytes to come back`, () => {
      if (this.dialer.code !== undefined) throw new Error(`ended after ${this.received} bytes`);
      return this.received >= end;
    });
  }

  /**
   * Sends what is left, and checks that all has come back and that stderr has no error.
   *
   * @returns The longest time without a byte since {@linkcode watch}, in milliseconds.
   */
  async finish(): Promise<number> {
    await this.writeTo(this.#data.length);
    await this.#env.until("all to come back", () => {
      if (this.dialer.code !== undefined) throw new Error(`ended after ${this.received} bytes`);
      return this.received >= this.#data.length;
    });
    const longestMs = this.#longestMs;
    await this.dialer.end();
    const { code, stderr }: Run = await this.#env.within(this.dialer.ended);
    await this.#reading;
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stderr, /^git-annex-p2p-iroh: (?!debug)/m);
    assert.equal(this.received, this.#data.length);
    assert.equal(this.#hash.digest("hex"), await checksumOf(this.#data));
    return longestMs;
  }

  async #read(): Promise<void> {
    for await (const piece of this.dialer.stdoutReader) {
      const now = performance.now();
      this.#longestMs = Math.max(this.#longestMs, now - this.#lastAt);
      this.#lastAt = now;
      const greeting = Math.max(0, AUTH_SUCCESS.length - this.#received);
      this.#received += piece.length;
      this.#hash.update(piece.subarray(greeting));
    }
  }
}
