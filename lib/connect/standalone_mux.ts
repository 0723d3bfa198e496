/** An outbound session of a standalone process on the mux protocol. It may go on by a lane, and on another connection. */

import { abortable } from "../async/abort.ts";
import { dialPeer } from "../dial/dialer.ts";
import type { Connection } from "../iroh/connection.ts";
import { CLOSE_REASONS, CloseCode } from "../protocol/close_codes.ts";
import {
  MUX_ALPN,
  newSessionId,
  noticeLossSoon,
  StreamType,
  writeStreamHeader,
} from "../protocol/mux.ts";
import type { Settings } from "../repository/settings.ts";
import type { Ticket } from "../repository/ticket.ts";
import { type LaneSignaling, LaneUpgrade } from "./lane_upgrade.ts";
import { abortCode, type OutboundSession } from "./outbound.ts";

/**
 * Opens the only session of a connection.
 *
 * @param onLane Called when the session migrates to a lane.
 */
export async function openMuxSession(
  first: Connection,
  ticket: Ticket,
  settings: Settings,
  onLane: () => void,
  signal: AbortSignal,
): Promise<OutboundSession> {
  let connection = first;
  const stream = await abortable(connection.open(), signal);
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
      await connection.closeAndSend(CloseCode.DONE, "");
    },
    async giveUp(error) {
      const code = abortCode(error);
      await connection.closeAndSend(code, CLOSE_REASONS.get(code)!);
    },
    [Symbol.dispose]: () => upgrade[Symbol.dispose](),
  };
}
