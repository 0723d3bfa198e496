/** An outbound session without the listener: this process dials with its own endpoint. */

import { abortable } from "../async/abort.ts";
import { dialPeer, SelfDial } from "../dial/dialer.ts";
import { Failure } from "../console/failure.ts";
import { readIdentity } from "../repository/identity.ts";
import type { Connection } from "../iroh/connection.ts";
import { withRelayToken } from "../repository/relay_token.ts";
import type { Repository } from "../repository/repository.ts";
import type { Settings } from "../repository/settings.ts";
import { debug } from "../console/stderr.ts";
import { samePublicKey, type Ticket } from "../repository/ticket.ts";
import {
  MUX_ALPN,
  newSessionId,
  noticeLossSoon,
  StreamType,
  writeStreamHeader,
} from "../protocol/mux.ts";
import { CLOSE_REASONS, CloseCode } from "../protocol/close_codes.ts";
import { DUMBPIPE_ALPN, sendHandshake } from "../protocol/dumbpipe.ts";
import { rememberDumbpipeOnly, speaksDumbpipeOnly } from "../dial/alpn_cache.ts";
import { type LaneSignaling, LaneUpgrade } from "./lane_upgrade.ts";
import { abortCode, type OutboundSession } from "./outbound.ts";

/**
 * Dials a peer, and opens a session.
 *
 * @param onLane Called when the session migrates to a lane.
 * @throws {SelfDial} if the address is this repository's own.
 * @throws What {@linkcode dialPeer} throws, such as {@linkcode Unreachable}.
 */
export async function openStandalone(
  ticket: Ticket,
  settings: Settings,
  repository: Repository | undefined,
  onLane: () => void,
  signal: AbortSignal,
): Promise<OutboundSession> {
  if (repository && isSelf(ticket, repository)) throw new SelfDial();
  const alpns = await alpnsFor(ticket, settings);
  const withToken = await withRelayToken(settings, repository);
  const { connection } = await dialPeer(ticket, withToken, alpns, signal);
  if (alpns.length > 1 && connection.alpn === DUMBPIPE_ALPN) {
    await rememberDumbpipeOnly(ticket.publicKey);
  }
  try {
    return await open(connection, ticket, withToken, onLane, signal);
  } catch (error) {
    await connection.closeAndSend(CloseCode.STOPPED, "stopped");
    throw error;
  }
}

async function open(
  first: Connection,
  ticket: Ticket,
  settings: Settings,
  onLane: () => void,
  signal: AbortSignal,
): Promise<OutboundSession> {
  // The endpoint lives until the process exits. To close it takes a second, in which git-annex would
  // wait although everything has been sent.
  let connection = first;
  const finish = () => connection.closeAndSend(CloseCode.DONE, "");
  const stream = await abortable(connection.open(), signal);
  if (connection.alpn === DUMBPIPE_ALPN) {
    await abortable(sendHandshake(stream), signal);
    const giveUp = () => connection.closeAndSend(CloseCode.STOPPED, "stopped");
    return { stream, finish, giveUp, [Symbol.dispose]() {} };
  }
  const id = newSessionId();
  noticeLossSoon(connection);
  await abortable(writeStreamHeader(stream, { type: StreamType.SESSION, session: 0, id }), signal);
  const openLane = async (): Promise<LaneSignaling> => {
    const { laneAddresses } = await import("../lane/local_addresses.ts");
    const stream = await connection.open();
    await writeStreamHeader(stream, { type: StreamType.LANE, session: 0 });
    return { stream, addresses: laneAddresses(connection, settings.bind), [Symbol.dispose]() {} };
  };
  const resume = async (signal: AbortSignal) => {
    // An endpoint goes on sending to where a peer was as long as it has any connection with it.
    connection.close(CloseCode.LOST, CLOSE_REASONS.get(CloseCode.LOST)!);
    const options = { from: connection.endpoint };
    connection = (await dialPeer(ticket, settings, [MUX_ALPN], signal, options)).connection;
    noticeLossSoon(connection);
    const stream = await abortable(connection.open(), signal);
    const header = { type: StreamType.RESUME, session: 0, id } as const;
    await abortable(writeStreamHeader(stream, header), signal);
    return { stream, connectionClosed: connection.closedError };
  };
  const upgrade = new LaneUpgrade({
    stream,
    connectionClosed: connection.closedError,
    peerKey: () => Promise.resolve(connection.publicKey.toHex()),
    openLane,
    onLane,
    resume,
    signal,
  });
  return {
    stream: upgrade.session,
    async finish() {
      await upgrade.session.detach();
      await finish();
    },
    async giveUp(error) {
      const code = abortCode(error);
      await connection.closeAndSend(code, CLOSE_REASONS.get(code)!);
    },
    [Symbol.dispose]: () => upgrade[Symbol.dispose](),
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
