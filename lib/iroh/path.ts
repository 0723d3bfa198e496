/** The path of a connection: how its packets travel at present. */

/** The path that a connection uses. */
export interface ConnectionPath {
  readonly kind: "direct" | "relay";
  /** The peer's IP address and port, or the relay's URL. Printable. */
  readonly address: string;
}

/** Returns a path as `status` and the log show it: `direct 1.2.3.4:5`, `relay https://…` or `no path`. */
export function describePath(path: ConnectionPath | undefined): string {
  return path ? `${path.kind} ${path.address}` : "no path";
}
