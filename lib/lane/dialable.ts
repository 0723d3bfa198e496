/**
 * Tells which of the addresses in a peer's offer may be dialed. A peer that git-annex has let in must not make
 * this host connect to services that only this host, or its link, can reach.
 */

import { BlockList, isIP } from "node:net";
import { ownAddresses } from "../platform/network_interfaces.ts";
import { splitSocketAddress } from "../platform/socket_address.ts";

/** Networks in which no peer is. A BlockList treats `::ffff:1.2.3.4` like `1.2.3.4`. */
const NO_PEER = new BlockList();
NO_PEER.addSubnet("0.0.0.0", 8, "ipv4");
NO_PEER.addSubnet("224.0.0.0", 3, "ipv4"); // multicast, broadcast and what is reserved
NO_PEER.addSubnet("ff00::", 8, "ipv6");
NO_PEER.addAddress("::", "ipv6");

/** The addresses at which iroh sees a peer on this host. */
const LOOPBACK = ["127.0.0.1", "::1"];

/** Tells whether a peer may be at a socket address. */
export function isPeerAddress(address: string): boolean {
  const { host, port } = splitSocketAddress(address);
  return port > 0 && !contains(NO_PEER, host);
}

/**
 * Returns a function that tells whether an IP address that a peer offers may be dialed. Loopback, link-local
 * addresses, and those of this host may not, except for the address at which iroh sees the peer. If that is
 * 127.0.0.1 or ::1, the other one may be dialed, too.
 *
 * @param observedRemote IP address at which iroh sees the peer, if it does.
 * @param own The addresses of this host.
 */
export function dialableHosts(
  observedRemote: string | undefined,
  own: readonly string[] = ownAddresses(),
): (host: string) => boolean {
  const local = new BlockList(), observed = new BlockList();
  local.addSubnet("127.0.0.0", 8, "ipv4");
  local.addSubnet("169.254.0.0", 16, "ipv4");
  local.addAddress("::1", "ipv6");
  local.addSubnet("fe80::", 10, "ipv6");
  for (const address of own) add(local, address);
  if (observedRemote !== undefined) add(observed, observedRemote);
  // The other end may see this one at the other of the two, and offer its ports there.
  if (LOOPBACK.some((host) => contains(observed, host))) {
    for (const host of LOOPBACK) add(observed, host);
  }
  return (host) => !contains(local, host) || contains(observed, host);
}

function add(list: BlockList, address: string): void {
  const bare = withoutScope(address), version = isIP(bare);
  if (version !== 0) list.addAddress(bare, version === 6 ? "ipv6" : "ipv4");
}

function contains(list: BlockList, address: string): boolean {
  const bare = withoutScope(address);
  return list.check(bare, isIP(bare) === 6 ? "ipv6" : "ipv4");
}

function withoutScope(address: string): string {
  return address.replace(/%.*$/, "");
}
