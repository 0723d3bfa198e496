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
  /** True if it has an IPv6 address. */
  readonly ipv6: boolean;
}

/** Returns the interfaces that are up, without the loopback. */
export function interfaces(): Interface[] {
  return Object.entries(allInterfaces()).flatMap(([name, entries = []]) => {
    const outside = entries.filter(({ internal }) => !internal);
    if (outside.length === 0) return [];
    const addresses = outside.map(({ address }) => address).filter((address) =>
      !isLinkLocalIpv6(address)
    );
    const ipv6 = outside.find(({ address }) => isIPv6(address));
    const scope = Deno.build.os === "windows" ? String(ipv6?.scopeid ?? 0) : name;
    return [{ name, scope, addresses, ipv6: ipv6 !== undefined }];
  });
}

/** Returns the IP addresses of this host, as text that changes when they do. */
export function localHosts(): string {
  return interfaces().flatMap(({ addresses }) => addresses).toSorted().join(" ");
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
  for (const entries of Object.values(allInterfaces())) {
    for (const { cidr, internal } of entries ?? []) {
      if (internal || !cidr) continue;
      const [address, bits] = cidr.split("/");
      networks.addSubnet(address!, Number(bits), isIPv6(address!) ? "ipv6" : "ipv4");
    }
  }
  return (address) => {
    const bare = address.replace(/%.*$/, ""); // an IPv6 address may contain a scope
    return networks.check(bare, isIPv6(bare) ? "ipv6" : "ipv4");
  };
}

/** Tells whether an address is link-local IPv6. It needs a scope, which DNS records cannot contain. */
export function isLinkLocalIpv6(address: string): boolean {
  return /^fe[89ab]/i.test(address);
}
