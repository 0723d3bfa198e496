/**
 * Tells which host, boot and container wrote a file. Several of them may share a repository, a home folder or
 * a runtime folder, and a process id or the path of a socket holds only where it was written.
 */

import { openLibc } from "./libc.ts";

/** Where a process runs. */
export interface HostId {
  /** Name of the host, for people. */
  readonly name: string;
  /** Identifies the host since its last start; its name if the system has no such id. */
  readonly boot: string;
  /** Identifies the container: its namespace of process ids. Only Linux has them. */
  readonly pidNamespace: string;
}

/** Where a file was written, as seen from here. */
export type Whereabouts =
  /** Here: its process ids hold. */
  | "here"
  /** On this host, before it was started anew: its processes are gone. */
  | "before"
  /** In another container of this host. */
  | "container"
  /** On another host. */
  | "elsewhere";

let known: HostId | undefined;

/** Returns where this process runs. Never throws. */
export function thisHost(): HostId {
  if (known) return known;
  const name = Deno.hostname();
  const boot = quietly(bootId) ?? name;
  const pidNamespace = quietly(() => Deno.readLinkSync("/proc/self/ns/pid")) ?? "";
  return known = { name, boot, pidNamespace };
}

/** Returns where a file was written that has this id. */
export function whereaboutsOf(host: HostId, here: HostId = thisHost()): Whereabouts {
  if (host.boot !== here.boot) return host.name === here.name ? "before" : "elsewhere";
  return host.pidNamespace === here.pidNamespace ? "here" : "container";
}

/** Checks an id that was read from a file. @returns Undefined if it is none. */
export function parseHostId(value: unknown): HostId | undefined {
  if (value === null || typeof value !== "object") return undefined;
  const { name, boot, pidNamespace } = value as Record<string, unknown>;
  const isValid = typeof name === "string" && typeof boot === "string" &&
    typeof pidNamespace === "string";
  return isValid ? { name, boot, pidNamespace } : undefined;
}

function bootId(): string | undefined {
  if (Deno.build.os === "linux") {
    return Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim();
  }
  if (Deno.build.os !== "darwin") return undefined;
  using libc = openLibc();
  const name = new TextEncoder().encode("kern.bootsessionuuid\0"); // sysctl(3)
  const value = new Uint8Array(64), length = BigUint64Array.of(BigInt(value.length));
  if (libc?.sysctlbyname?.(name, value, length, null, 0n) !== 0) return undefined;
  return new TextDecoder().decode(value.subarray(0, value.indexOf(0)));
}

/** Returns undefined if the system cannot say it, as in a container without `/proc`. */
function quietly<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch {
    return undefined;
  }
}
