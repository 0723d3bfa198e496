/** By which addresses the two ends of a connection may reach each other directly. */

import { interfaces } from "../platform/network_interfaces.ts";
import type { Connection } from "../iroh/connection.ts";
import { isAnyHost, splitSocketAddress } from "../platform/socket_address.ts";
import type { LaneAddresses } from "./negotiation.ts";

/** @param bind The setting: where it names an address, that one alone is used. */
export function laneAddresses(connection: Connection, bind: string | undefined): LaneAddresses {
  const { path } = connection;
  const observedRemote = path?.kind === "direct"
    ? splitSocketAddress(path.address).host
    : undefined;
  return { local: localHosts(connection, observedRemote, bind), observedRemote };
}

function localHosts(
  connection: Connection,
  observedRemote: string | undefined,
  bind?: string,
): string[] {
  const bound = bind === undefined ? undefined : splitSocketAddress(bind).host;
  if (bound !== undefined && !isAnyHost(bound)) return [bound];
  if (observedRemote !== undefined && isLoopback(observedRemote)) return [observedRemote];
  const ofInterfaces = interfaces().flatMap(({ addresses }) => addresses);
  return [...new Set([...ofInterfaces, ...addressesFromOutside(connection)])];
}

/** What iroh knows of this host: public addresses, and what a router has mapped. */
function addressesFromOutside(connection: Connection): string[] {
  const { direct } = connection.endpoint.knownAddresses();
  return direct.map((address) => splitSocketAddress(address).host);
}

function isLoopback(host: string): boolean {
  return host === "::1" || host.startsWith("127.");
}
