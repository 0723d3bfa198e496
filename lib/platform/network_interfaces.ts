/** The network interfaces that are up, and what is on a link with this host. */

import { BlockList, isIPv6 } from "node:net";
import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import { debug } from "../console/stderr.ts";

/** An interface by which others can be reached. */
export interface Interface {
  readonly name: string;
  /** Its number, in the form in which IPv6 addresses name it. */
  readonly scope: string;
  /** IPv4 addresses, and IPv6 addresses that mean the same on every interface. */
  readonly addresses: readonly string[];
  /** Whether it speaks IPv6. */
  readonly ipv6: boolean;
}

/** The interfaces that are up, without the loopback. */
export function interfaces(): Interface[] {
  return Object.entries(present()).flatMap(([name, entries = []]) => {
    const outside = entries.filter(({ internal }) => !internal);
    if (outside.length === 0) return [];
    const addresses = outside.map(({ address }) => address).filter((address) =>
      !isLinkLocalIpv6(address)
    );
    const ipv6 = outside.find(({ address }) => isIPv6(address));
    // Windows knows interfaces by number alone.
    const scope = Deno.build.os === "windows" ? String(ipv6?.scopeid ?? 0) : name;
    return [{ name, scope, addresses, ipv6: ipv6 !== undefined }];
  });
}

function present(): Record<string, NetworkInterfaceInfo[] | undefined> {
  try {
    return networkInterfaces();
  } catch (error) {
    debug(() => `local network: the interfaces are not to be known: ${error}`); // for now, perhaps
    return {};
  }
}

/** Tells whether an IP address belongs to a network that this host has an interface in. */
export function onLocalNetwork(): (address: string) => boolean {
  const networks = new BlockList();
  for (const entries of Object.values(present())) {
    for (const { cidr, internal } of entries ?? []) {
      if (internal || !cidr) continue;
      const [address, bits] = cidr.split("/");
      networks.addSubnet(address!, Number(bits), isIPv6(address!) ? "ipv6" : "ipv4");
    }
  }
  return (address) => {
    const bare = address.replace(/%.*$/, ""); // an IPv6 address may come with its interface
    return networks.check(bare, isIPv6(bare) ? "ipv6" : "ipv4");
  };
}

/** Such an address means something only together with an interface, which DNS records cannot name. */
export function isLinkLocalIpv6(address: string): boolean {
  return /^fe[89ab]/i.test(address);
}
