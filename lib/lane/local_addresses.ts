/** Finds the addresses at which the two ends of an iroh connection may reach each other directly. */

import { isLoopback } from "../platform/ip_address.ts";
import { hostAddresses } from "../platform/network_interfaces.ts";
import type { Connection } from "../iroh/connection.ts";
import { isAnyHost, splitSocketAddress } from "../platform/socket_address.ts";
import type { LaneAddresses } from "./negotiation.ts";

/** Returns the addresses for a lane. @param bind The setting. If it names an address, only that one is used. */
export function laneAddresses(connection: Connection, bind: string | undefined): LaneAddresses {
  const { path, roundTripMs } = connection;
  if (path?.kind !== "direct") return { local: localHosts(connection, undefined, bind) };
  const observedRemote = splitSocketAddress(path.address).host;
  return { local: localHosts(connection, observedRemote, bind), observedRemote, roundTripMs };
}

function localHosts(
  connection: Connection,
  observedRemote: string | undefined,
  bind?: string,
): string[] {
  const bound = bind === undefined ? undefined : splitSocketAddress(bind).host;
  if (bound !== undefined && !isAnyHost(bound)) return [bound];
  if (observedRemote !== undefined && isLoopback(observedRemote)) return [observedRemote];
  // The most likely come first, since an offer holds a limited number.
  const { likely, others } = hostAddresses(observedRemote);
  return [...new Set([...likely, ...addressesFromOutside(connection), ...others])];
}

/** Returns the addresses of this host that iroh knows: public ones, and those that a router maps. */
function addressesFromOutside(connection: Connection): string[] {
  const { direct } = connection.endpoint.knownAddresses();
  return direct.map((address) => splitSocketAddress(address).host);
}
