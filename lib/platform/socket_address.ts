/** Parses and makes socket addresses: an IP address and a port, as `1.2.3.4:5` or `[::1]:5`. */

import { isIP, isIPv4 } from "./ip_address.ts";

/** Returns a text if it is a socket address, else undefined. */
export function parseSocketAddress(value: string): string | undefined {
  const parts = /^(?:([\d.]+)|\[([\da-fA-F:.]+)\]):(\d{1,5})$/.exec(value);
  if (!parts || Number(parts[3]) > 0xffff) return undefined;
  return isIP(parts[1] ?? parts[2]!) === (parts[1] ? 4 : 6) ? value : undefined;
}

/** Returns the parts of a socket address. @param address A valid one. */
export function splitSocketAddress(address: string): { host: string; port: number } {
  const [, host, port] = /^\[?([^\]]+)\]?:(\d+)$/.exec(address)!;
  return { host: host!, port: Number(port) };
}

/** Tells whether an address to listen on means all addresses of the host. */
export function isAnyHost(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

/** Returns a socket address with these parts. */
export function socketAddress(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Returns a socket address with port 0, for which the system chooses a port. */
export function withAnyPort(address: string): string {
  return socketAddress(splitSocketAddress(address).host, 0);
}

/** Maximum length of the path in the address of a unix socket, in bytes without the final NUL (sockaddr_un). */
const MAX_PATH_BYTES = Deno.build.os === "linux" ? 107 : 103;

/** Tells whether a path is short enough for a unix socket. */
export function fitsSocketAddress(path: string): boolean {
  return new TextEncoder().encode(path).length <= MAX_PATH_BYTES;
}

/**
 * Returns the network that one host may have for itself: an IPv4 address, or 64 bits of an IPv6 address, from
 * whose network a host can take any number of addresses.
 *
 * @param host An IP address.
 */
export function networkOf(host: string): string {
  const ipv4 = host.replace(/^::ffff:(?=[\d.]+$)/i, "");
  if (isIPv4(ipv4)) return ipv4;
  const [before = [], after = []] = host.replace(/%.*$/, "").split("::")
    .map((groups) => groups.split(":").filter((group) => group !== ""));
  const count = after.length + (after.at(-1)?.includes(".") ? 1 : 0);
  const zeros = Array<string>(Math.max(0, 8 - before.length - count)).fill("0");
  const groups = [...before, ...zeros, ...after].slice(0, 4);
  return `${groups.map((group) => parseInt(group, 16).toString(16)).join(":")}::/64`;
}
