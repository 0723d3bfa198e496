/** An IP address and a port, as text: `1.2.3.4:5` or `[::1]:5`. */

import { isIP } from "node:net";

/** `1.2.3.4:5` or `[::1]:5`, with a port that exists; undefined for anything else. */
export function parseSocketAddress(value: string): string | undefined {
  const parts = /^(?:([\d.]+)|\[([\da-fA-F:.]+)\]):(\d{1,5})$/.exec(value);
  if (!parts || Number(parts[3]) > 0xffff) return undefined;
  return isIP(parts[1] ?? parts[2]!) === (parts[1] ? 4 : 6) ? value : undefined;
}

/** The parts of a socket address, as `1.2.3.4:5` or `[::1]:5`. */
export function splitSocketAddress(address: string): { host: string; port: number } {
  const [, host, port] = /^\[?([^\]]+)\]?:(\d+)$/.exec(address)!;
  return { host: host!, port: Number(port) };
}

/** Whether an address to listen on stands for all addresses of the host. */
export function isAnyHost(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

/** A socket address of its parts. */
export function socketAddress(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The same address with a port of the system's choice. */
export function withAnyPort(address: string): string {
  return socketAddress(splitSocketAddress(address).host, 0);
}
