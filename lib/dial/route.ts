/** The routes on which a dial tries to reach a peer, and their names for people. */

import type { ConnectionPath } from "../iroh/path.ts";
import type { Settings } from "../repository/settings.ts";
import type { Ticket } from "../repository/ticket.ts";

/** Where a route comes from. */
export type RouteKind =
  /** A listener on this host has registered itself. */
  | "same-host"
  /** The peer's address contains a socket address. */
  | "address"
  /** The peer's address or this repository's settings name a relay. */
  | "relay"
  /** iroh's public DNS is asked. */
  | "lookup"
  /** The peer, or a host that claims to know it, has answered on the local network. */
  | "local-network";

/** One way to reach a peer. */
export interface Route {
  readonly kind: RouteKind;
  /** Socket addresses to send to. */
  readonly direct?: readonly string[];
  /** URL of the relay to send through. */
  readonly relay?: string;
}

/** Returns the routes that are known before the search on the local network begins. */
export function knownRoutes(
  ticket: Ticket,
  { relay, lookup }: Pick<Settings, "relay" | "lookup">,
  sameHost: readonly string[],
): Route[] {
  const relays = relay.kind === "none"
    ? []
    : relay.kind === "n0"
    ? ticket.relays
    : [...ticket.relays, ...relay.urls];
  return [
    ...sameHost.length > 0 ? [{ kind: "same-host", direct: sameHost } as const] : [],
    ...ticket.direct.map((address) => ({ kind: "address", direct: [address] }) as const),
    ...[...new Set(relays)].map((relay) => ({ kind: "relay", relay }) as const),
    ...lookup ? [{ kind: "lookup" } as const] : [],
  ];
}

/** Returns the name under which a failed dial lists a route. */
export function routeName(route: Route): string {
  return route.kind === "address" ? route.direct!.join(", ") : describeRoute(route);
}

/** Returns how a peer was found, to follow the words "found by". */
export function describeRoute({ kind, relay }: Route): string {
  switch (kind) {
    case "same-host":
      return "the same host";
    case "address":
      return "its address";
    case "relay":
      return `relay ${relay}`;
    case "lookup":
      return "the look-up at iroh's DNS";
    case "local-network":
      return "the local network";
  }
}

/**
 * Returns the route by which a connection has come about, judged by the path that it uses.
 *
 * iroh finds further addresses of a peer by itself, as soon as one route works. If the connection uses such
 * an address, the look-up or a relay is named rather than another route, since they lead to more addresses.
 *
 * @param path As `Connection.path` has it.
 * @param routes At least one.
 */
export function routeOf(path: ConnectionPath | undefined, routes: readonly Route[]): Route {
  const { kind, address = "" } = path ?? {};
  return routes.find(({ direct, relay }) =>
    kind === "relay" ? relay === address : direct?.includes(address)
  ) ??
    routes.find(({ kind }) => kind === "lookup") ??
    routes.find(({ kind }) => kind === "relay") ??
    routes[0]!;
}
