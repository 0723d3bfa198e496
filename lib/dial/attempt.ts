/** One attempt to connect to a peer, from one endpoint, on one route or several. */

import { systemReason } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import type { Connection, LocalEndpoint } from "../iroh/connection.ts";
import type { DialError, DialErrorKind } from "../iroh/errors.ts";
import type { Route } from "./route.ts";

/** What every attempt of a dial has in common. */
export interface DialTarget {
  /** The peer's public key. */
  readonly publicKey: Uint8Array;
  /** Protocols, the preferred one first. */
  readonly alpns: readonly string[];
  /** Ends every attempt. */
  readonly signal: AbortSignal;
}

/**
 * Connects with the first protocol that the peer speaks, at the cost of a round trip for each.
 *
 * @param raceEnded Aborted when another attempt has won.
 * @throws {DialError} or a signal's reason.
 */
export async function connectOn(
  endpoint: LocalEndpoint,
  routes: readonly Route[],
  { publicKey, alpns, signal }: DialTarget,
  raceEnded: AbortSignal,
): Promise<Connection> {
  const peer = {
    publicKey,
    direct: routes.flatMap(({ direct }) => direct ?? []),
    relay: routes.find(({ relay }) => relay)?.relay,
  };
  const ended = AbortSignal.any([signal, raceEnded]);
  for (const [i, alpn] of alpns.entries()) {
    try {
      return await endpoint.connect(peer, alpn, ended);
    } catch (error) {
      if (i === alpns.length - 1 || !isDialError(error, "alpn-mismatch")) throw error;
      debug(() => `${alpn}: ${systemReason(error)}`);
    }
  }
  throw new RangeError("no protocol to dial with");
}

/**
 * Tells whether an error is a {@linkcode DialError} of this kind. It looks at the parts, since the class lives
 * in a module that is loaded only when it is needed.
 */
export function isDialError(error: unknown, kind: DialErrorKind): boolean {
  return error instanceof Error && error.name === "DialError" &&
    (error as DialError).kind === kind;
}
