/** Lists the network interfaces that are up, and tells which addresses are on a network of this host. */

import { BlockList, isIPv6 } from "node:net";
import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import { debug } from "../console/stderr.ts";

/** An interface that leads to other hosts. */
export interface Interface {
  readonly name: string;
  /** Its scope as IPv6 addresses contain it: its name, or on Windows its number. */
  readonly scope: string;
  /** Its addresses, without link-local IPv6 addresses. */
  readonly addresses: readonly string[];
  /** The networks of all its addresses, as `192.168.7.0/24`. */
  readonly networks: readonly string[];
  /** One of its IPv6 addresses, if it has any. If all are link-local, it has the scope. */
  readonly ipv6: string | undefined;
}

/** Returns the interfaces that are up, without the loopback. */
export function interfaces(): Interface[] {
  return Object.entries(allInterfaces()).flatMap(([name, entries = []]) => {
    const outside = entries.filter(({ internal }) => !internal);
    if (outside.length === 0) return [];
    const addresses = outside.map(({ address }) => address).filter((address) =>
      !isLinkLocalIpv6(address)
    );
    const ipv6 = outside.filter(({ address }) => isIPv6(address));
    const scope = Deno.build.os === "windows" ? String(ipv6[0]?.scopeid ?? 0) : name;
    // A link-local address does not work in the first seconds of an interface.
    const any = addresses.find((address) => isIPv6(address)) ??
      (ipv6[0] && `${ipv6[0].address}%${scope}`);
    const networks = outside.flatMap(({ cidr }) => cidr ?? []);
    return [{ name, scope, addresses, networks, ipv6: any }];
  });
}

/** Returns the IP addresses of this host, as text that changes when they do. */
function localHosts(): string {
  return interfaces().flatMap(({ addresses }) => addresses).toSorted().join(" ");
}

/**
 * Returns a function that tells whether this host has lost an IP address that it has now: the given one. If that is
 * unknown, any counts with which this host reaches the internet. Those of containers come and go.
 */
export function lostAddressDetector(): (address: string | undefined) => boolean {
  const before = new Set(ownAddresses()), { likely, others } = hostAddresses(undefined);
  const any = likely.length > 0 ? likely : others;
  return (address) => {
    const now = new Set(ownAddresses()), watched = address === undefined ? any : [address];
    return watched.some((one) => before.has(one) && !now.has(one));
  };
}

/**
 * Returns the IP addresses from which this host can send to others, as text that changes when they do. The system
 * also lists the addresses of an interface that is down, but it has no route there.
 */
export function sendingHosts(): string {
  const tables = Deno.build.os === "linux"
    ? [read("/proc/net/route"), read("/proc/net/ipv6_route")]
    : [];
  if (!tables.some((table) => table)) return localHosts(); // only the system knows
  const routed = new Set(tables.flatMap(routesIn));
  return interfaces().filter(({ name }) => routed.has(name))
    .flatMap(({ addresses }) => addresses).toSorted().join(" ");
}

/** Returns the interfaces with a route in the text of a routing table of Linux. Link-local IPv6 does not count. */
export function routesIn(table: string): string[] {
  const routes = table.split("\n").map((line) => line.trim().split(/\s+/));
  const names = routes.flatMap((fields) =>
    fields.length === 11
      ? fields[0] === "Iface" ? [] : [fields[0]!]
      : fields.length === 10 && !/^f[ef]/.test(fields[0]!)
      ? [fields[9]!]
      : []
  );
  return names.filter((name) => name !== "lo");
}

/** The IP addresses of this host, without link-local IPv6 addresses. */
export interface HostAddresses {
  /** Those on a network of the other host, and then those of interfaces that lead to the internet. */
  readonly likely: readonly string[];
  /** The others. A host that runs containers has many. */
  readonly others: readonly string[];
}

/**
 * Returns the IP addresses of this host, by how likely another host can reach them.
 *
 * @param remote IP address of the other host, if it is known.
 * @param gateways Names of the interfaces with a default route.
 */
export function hostAddresses(
  remote: string | undefined,
  all: readonly Interface[] = interfaces(),
  gateways: readonly string[] = defaultRoutes(),
): HostAddresses {
  const ranks: [string[], string[], string[]] = [[], [], []];
  for (const { name, addresses, networks } of all) {
    const rank = remote !== undefined && isIn(networks, remote)
      ? 0
      : gateways.includes(name)
      ? 1
      : 2;
    ranks[rank].push(...addresses);
  }
  return { likely: [...ranks[0], ...ranks[1]], others: ranks[2] };
}

/** Returns the names of the interfaces with a default route, as far as the system tells. */
function defaultRoutes(): string[] {
  if (Deno.build.os !== "linux") return [];
  return [
    ...defaultRoutesIn(read("/proc/net/route")),
    ...defaultRoutesIn(read("/proc/net/ipv6_route")),
  ];
}

function read(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    debug(() => `${path}: ${error}`); // the addresses stay in the system's order
    return "";
  }
}

/** Returns the interfaces with a default route in the text of a routing table of Linux, IPv4's or IPv6's. */
export function defaultRoutesIn(table: string): string[] {
  const routes = table.split("\n").map((line) => line.trim().split(/\s+/));
  const names = routes.flatMap((fields) =>
    fields.length === 10
      ? fields[0] === "0".repeat(32) && fields[1] === "00" ? [fields[9]!] : []
      : fields[1] === "0".repeat(8) && fields[7] === "0".repeat(8)
      ? [fields[0]!]
      : []
  );
  return names.filter((name) => name !== "lo");
}

function isIn(networks: readonly string[], address: string): boolean {
  const list = new BlockList();
  for (const network of networks) addNetwork(list, network);
  return contains(list, address);
}

function addNetwork(list: BlockList, network: string): void {
  const [address, bits] = network.split("/");
  list.addSubnet(address!, Number(bits), isIPv6(address!) ? "ipv6" : "ipv4");
}

function contains(list: BlockList, address: string): boolean {
  const bare = address.replace(/%.*$/, ""); // an IPv6 address may contain a scope
  return list.check(bare, isIPv6(bare) ? "ipv6" : "ipv4");
}

/** Returns all IP addresses of this host, with those of the loopback. */
export function ownAddresses(): string[] {
  return Object.values(allInterfaces()).flatMap((entries = []) =>
    entries.map(({ address }) => address)
  );
}

function allInterfaces(): Record<string, NetworkInterfaceInfo[] | undefined> {
  try {
    return networkInterfaces();
  } catch (error) {
    debug(() => `local network: cannot list the interfaces: ${error}`); // a later call may succeed
    return {};
  }
}

/** Returns a function that tells whether an IP address is on a network of one of this host's interfaces. */
export function onLocalNetwork(): (address: string) => boolean {
  const networks = new BlockList();
  for (const one of interfaces().flatMap(({ networks }) => networks)) addNetwork(networks, one);
  return (address) => contains(networks, address);
}

/** Tells whether an address is link-local IPv6. It needs a scope, which DNS records cannot contain. */
export function isLinkLocalIpv6(address: string): boolean {
  return /^fe[89ab]/i.test(address);
}
