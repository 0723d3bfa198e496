/** An outbound session without the listener: this process dials with its own endpoint. */

import { abortable } from "../async/abort.ts";
import { AbsenceMemory } from "../dial/absence_memory.ts";
import { dialPeer, SelfDial } from "../dial/dialer.ts";
import { Unreachable } from "../dial/unreachable.ts";
import { Failure } from "../console/failure.ts";
import { readIdentity } from "../repository/identity.ts";
import type { Connection } from "../iroh/connection.ts";
import { withRelayToken } from "../repository/relay_token.ts";
import type { Repository } from "../repository/repository.ts";
import type { Settings } from "../repository/settings.ts";
import { debug } from "../console/stderr.ts";
import { samePublicKey, type Ticket } from "../repository/ticket.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import { DUMBPIPE_ALPN, sendHandshake } from "../protocol/dumbpipe.ts";
import { MUX_ALPN } from "../protocol/mux.ts";
import { rememberDumbpipeOnly, speaksDumbpipeOnly } from "../dial/alpn_cache.ts";
import type { OutboundSession } from "./outbound.ts";

/**
 * Dials a peer, and opens a session.
 *
 * @param absence What is remembered of the peer.
 * @param onLane Called when the session migrates to a lane.
 * @throws {SelfDial} if the address is this repository's own.
 * @throws What {@linkcode dialPeer} throws, such as `Unreachable`.
 */
export async function openStandalone(
  ticket: Ticket,
  settings: Settings,
  repository: Repository | undefined,
  absence: AbsenceMemory,
  onLane: () => void,
  signal: AbortSignal,
): Promise<OutboundSession> {
  if (repository && isSelf(ticket, repository)) throw new SelfDial();
  const alpns = await alpnsFor(ticket, settings);
  const withToken = await withRelayToken(settings, repository);
  // It is loaded meanwhile, unless the peer speaks only dumbpipe's protocol.
  const loading = alpns.includes(MUX_ALPN) ? import("./standalone_mux.ts") : undefined;
  const connection = await dial(ticket, withToken, repository, absence, alpns, signal);
  if (alpns.length > 1 && connection.alpn === DUMBPIPE_ALPN) {
    await rememberDumbpipeOnly(ticket.publicKey);
  }
  // The endpoint lives until the process exits. To close it takes a second, in which git-annex would
  // wait although everything has been sent.
  try {
    if (!loading || connection.alpn === DUMBPIPE_ALPN) {
      return await openDumbpipe(connection, signal);
    }
    const { openMuxSession } = await loading;
    return await openMuxSession(connection, ticket, withToken, onLane, signal);
  } catch (error) {
    await connection.closeAndSend(CloseCode.STOPPED, "stopped");
    throw error;
  }
}

/** Dials a peer, but only briefly if it has not answered in the last minute. @throws {Away} if it does not answer. */
async function dial(
  ticket: Ticket,
  settings: Settings,
  repository: Repository | undefined,
  absence: AbsenceMemory,
  alpns: readonly string[],
  signal: AbortSignal,
): Promise<Connection> {
  try {
    const { limits } = absence;
    const { connection } = await dialPeer(ticket, settings, alpns, signal, { limits });
    if (absence.isAway) await AbsenceMemory.forget(ticket);
    return connection;
  } catch (error) {
    if (!(error instanceof Unreachable && error.verdict === "away")) throw error;
    throw await absence.failed(error, await lastSeenOf(ticket, repository));
  }
}

async function lastSeenOf(
  { publicKey }: Ticket,
  repository: Repository | undefined,
): Promise<Date | undefined> {
  const { readLastSeen } = await import("../listener/last_seen.ts");
  return repository && readLastSeen(repository).get(publicKey.toHex());
}

async function openDumbpipe(
  connection: Connection,
  signal: AbortSignal,
): Promise<OutboundSession> {
  const stream = await abortable(connection.open(), signal);
  await abortable(sendHandshake(stream), signal);
  return {
    stream,
    finish: () => connection.closeAndSend(CloseCode.DONE, ""),
    giveUp: () => connection.closeAndSend(CloseCode.STOPPED, "stopped"),
    [Symbol.dispose]() {},
  };
}

function isSelf(ticket: Ticket, repository: Repository): boolean {
  try {
    const identity = readIdentity(repository);
    return identity !== undefined && samePublicKey(identity, ticket);
  } catch (error) {
    // A process can connect without an identity. The listener reports that it is damaged.
    if (error instanceof Failure) debug(() => `cannot read the identity: ${error.message}`);
    else throw error;
    return false;
  }
}

/** Returns the protocols to offer, the preferred one first. */
async function alpnsFor(ticket: Ticket, settings: Settings): Promise<string[]> {
  const isDumbpipeOnly = !settings.lane || await speaksDumbpipeOnly(ticket.publicKey);
  return isDumbpipeOnly ? [DUMBPIPE_ALPN] : [MUX_ALPN, DUMBPIPE_ALPN];
}
