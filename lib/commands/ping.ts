/** `git-annex-p2p-iroh ping ADDRESS`: tests whether a peer can be reached, by which route, how fast. */

import { abortable, delay } from "../async/abort.ts";
import { requestForget } from "../control/client.ts";
import { locateControlSocket } from "../control/locator.ts";
import { AbsenceMemory } from "../dial/absence_memory.ts";
import { dialPeer, type DialResult } from "../dial/dialer.ts";
import { Unreachable } from "../dial/unreachable.ts";
import { reasonFor } from "../console/failure.ts";
import type { Connection } from "../iroh/connection.ts";
import { describePath } from "../iroh/path.ts";
import { describeRoute } from "../dial/route.ts";
import { withRelayToken } from "../repository/relay_token.ts";
import { readWorkingContext, type Repository } from "../repository/repository.ts";
import { END_TIMEOUT_MS, Signals } from "../console/signals.ts";
import { debug, say } from "../console/stderr.ts";
import { print } from "../console/stdout.ts";
import { decodeTicket, shortKey, type Ticket } from "../repository/ticket.ts";
import { MUX_ALPN, ping as pingStream } from "../protocol/mux.ts";
import { CloseCode } from "../protocol/close_codes.ts";
import { DUMBPIPE_ALPN } from "../protocol/dumbpipe.ts";

/** Interval between pings, as ping(8) has it. */
const INTERVAL_MS = 1_000;
/** Timeout for a reply. A ping without one is lost. */
const REPLY_TIMEOUT_MS = 5_000;
const NO_REPLY = `nothing came within ${REPLY_TIMEOUT_MS / 1000} s`;

/** Prints a line for each reply, and a summary. @returns 0 if there was a reply, else 1. */
export async function ping(address: string, count: number): Promise<number> {
  const ticket = decodeTicket(address);
  using signals = new Signals(END_TIMEOUT_MS);
  const begin = performance.now();
  const context = await abortable(readWorkingContext(), signals.signal);
  await forgetAbsence(address, context.repository, signals.signal);
  const settings = await withRelayToken(context.settings, context.repository);
  const reached = await dialPeer(ticket, settings, [MUX_ALPN, DUMBPIPE_ALPN], signals.signal);
  const key = shortKey(ticket.publicKey);
  const foundBy = describeRoute(reached.route);
  const isMux = reached.connection.alpn === MUX_ALPN;
  await print(
    `connected to ${key} in ${milliseconds(performance.now() - begin)}, found by ${foundBy}` +
      (isMux
        ? "\n"
        : "; it speaks dumbpipe's protocol, so each time is that of a new connection\n"),
  );
  const once = isMux ? () => pingOnce(reached.connection) : () => connectOnce(reached, ticket);
  const times = await repeat(once, count, reached.connection, signals.signal);
  await printSummary(times, reached);
  await reached.connection.closeAndSend(CloseCode.DONE, "");
  return times.some((time) => time !== undefined) ? 0 : 1;
}

/** Has dials forget that the peer was away, since the user expects it to be there. */
async function forgetAbsence(
  address: string,
  repository: Repository | undefined,
  signal: AbortSignal,
): Promise<void> {
  await AbsenceMemory.forget(decodeTicket(address));
  const locator = repository && locateControlSocket(repository);
  if (!locator) return;
  await requestForget(locator, address, signal).catch((error) => {
    signal.throwIfAborted();
    debug(() => `the listener forgets nothing: ${error}`); // it tries a peer from time to time
  });
}

/** Pings `count` times. @returns The time of each reply in milliseconds, undefined if it is lost. */
async function repeat(
  once: () => Promise<void>,
  count: number,
  connection: Connection,
  signal: AbortSignal,
): Promise<(number | undefined)[]> {
  const times: (number | undefined)[] = [];
  let isClosed = false;
  connection.closed.then(() => isClosed = true);
  for (let i = 1; i <= count && !signal.aborted; i++) {
    const begin = performance.now();
    const time = await timeOf(once, signal).catch((error) => {
      if (!signal.aborted) say(`no reply ${i}, ${reasonFor(error, NO_REPLY)}`);
      return undefined;
    });
    if (signal.aborted) break; // the summary has the replies so far
    times.push(time);
    if (time !== undefined) {
      await print(`reply ${i} in ${milliseconds(time)}, ${describePath(connection.path)}\n`);
    } else if (isClosed) break; // further pings would be lost, too
    const rest = INTERVAL_MS - (performance.now() - begin);
    if (i < count && rest > 0) await delay(rest, signal).catch(() => {}); // the signal: the loop ends
  }
  return times;
}

async function timeOf(action: () => Promise<void>, signal: AbortSignal): Promise<number> {
  const begin = performance.now();
  await abortable(action(), AbortSignal.any([signal, AbortSignal.timeout(REPLY_TIMEOUT_MS)]));
  return performance.now() - begin;
}

async function pingOnce(connection: Connection): Promise<void> {
  await pingStream(await connection.open());
}

/** Makes a handshake in place of a ping, for dumbpipe's protocol. git-annex there does not notice. */
async function connectOnce({ connection }: DialResult, ticket: Ticket): Promise<void> {
  const { path } = connection;
  if (!path) throw new Unreachable("there is no path to the peer at present");
  const peer = path.kind === "relay"
    ? { publicKey: ticket.publicKey, relay: path.address, direct: [] }
    : { publicKey: ticket.publicKey, direct: [path.address] };
  const timeout = AbortSignal.timeout(REPLY_TIMEOUT_MS);
  const another = await connection.endpoint.connect(peer, DUMBPIPE_ALPN, timeout);
  another.close(CloseCode.DONE, "");
}

async function printSummary(
  times: readonly (number | undefined)[],
  { connection, route }: DialResult,
): Promise<void> {
  const replies = times.filter((time) => time !== undefined);
  const lost = times.length - replies.length;
  const loss = times.length > 0 ? Math.round(100 * lost / times.length) : 0;
  await print(
    `found by ${describeRoute(route)}, path ${describePath(connection.path)}; ` +
      `${replies.length} of ${times.length} replies, ${loss} % lost\n`,
  );
  if (replies.length > 0) await print(`${roundTrips(replies)}\n`);
}

/** Returns the summary of at least one reply. @param times In milliseconds. */
export function roundTrips(times: readonly number[]): string {
  const sorted = times.toSorted((a, b) => a - b);
  const [least, median, most] = [0, sorted.length >> 1, sorted.length - 1].map((i) =>
    milliseconds(sorted[i]!)
  );
  return `round trip: least ${least}, median ${median}, most ${most}`;
}

function milliseconds(time: number): string {
  return `${time.toFixed(1)} ms`;
}
