/** Adds further QUIC connections to a lane. Its bytes are then striped over all of them (striped_transport.ts). */

import { isIPv6 } from "../platform/ip_address.ts";
import { abortable, RunningTimeout } from "../async/abort.ts";
import { socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";
import { StripedTransport } from "./striped_transport.ts";
import type { Candidate } from "./candidate.ts";
import type { Certificate } from "./certificate.ts";
import { Nomination } from "./nomination.ts";
import { LaneError, type Transport } from "./lane.ts";
import { runConnectivityChecks, type Secrets } from "./connectivity.ts";
import { QuicPort } from "./quic.ts";

/** Number of further connections that this end asks for: far away, four in all are twice as fast as one (docs/benchmarks.md). */
const EXTRA_STRIPES = 3;
/**
 * Round trip below which this end asks for none, since one connection is then granted 600 MB/s or more. Four take
 * more of the processors, which are the limit there (docs/benchmarks.md).
 */
const NEAR_MS = 2;
/** Maximum that the other end may ask for. One byte tells which of them are used. */
const MAX_EXTRA_STRIPES = 8;
/** Maximum connections accepted per port. */
const MAX_CONNECTIONS = 8;
/** Timeout for the further connections to get through, in running time: many round trips. */
export const STRIPES_TIMEOUT_MS = 2_000;
/** Timeout for that by the clock. */
const CLOCK_TIMEOUT_MS = 10_000;
/** Timeout for a message of the other end, which waits for the further connections, too. */
const MESSAGE_TIMEOUT_MS = 15_000;

/** How to add connections to a lane. */
export interface StripingOptions {
  /** True at the end that chooses which connections are used. */
  readonly isControlling: boolean;
  /** Round trip on the way of the first connection; undefined if this end does not know it. */
  readonly roundTripMs: number | undefined;
  readonly signal: AbortSignal;
  /** {@linkcode STRIPES_TIMEOUT_MS}; tests pass a shorter one. */
  readonly timeoutMs?: number;
}

/**
 * Makes further connections, each with a port of its own at either end. The two ends exchange the port numbers
 * on the first connection.
 *
 * @param certificate The certificate that this end shows on the new ports.
 * @returns One transport for all connections that are used, which then closes them; or the first connection
 * alone, if no other gets through or either end is near the other.
 * @throws {LaneError} if the other end breaks the protocol, Deno's error if the first connection breaks, or the
 * signal's reason. The first connection is then closed.
 */
export async function addStripes(
  first: Candidate,
  certificate: Certificate,
  secrets: Secrets,
  { isControlling, roundTripMs = Infinity, signal, timeoutMs = STRIPES_TIMEOUT_MS }:
    StripingOptions,
): Promise<Transport> {
  const { host } = splitSocketAddress(first.remote);
  const wanted = roundTripMs < NEAR_MS ? 0 : EXTRA_STRIPES;
  const ports = openPorts(wanted, isIPv6(host) ? "::" : "0.0.0.0", certificate);
  const finished = new AbortController();
  const until = AbortSignal.any([signal, finished.signal]);
  const nominations: Nomination[] = [];
  try {
    const announced = ports.flatMap(({ port }) => [port >> 8, port & 0xff]);
    await inTime(first.write(Uint8Array.of(ports.length, ...announced)), signal);
    const remotePorts = (await inTime(receivePorts(first), signal)).slice(0, ports.length);
    for (const port of ports.splice(remotePorts.length)) port[Symbol.dispose](); // has no pair
    for (const [i, port] of ports.entries()) {
      const nomination = new Nomination(isControlling, until);
      nominations.push(nomination);
      const udp = [socketAddress(host, remotePorts[i]!)];
      const limits = { maxConnections: MAX_CONNECTIONS, until };
      runConnectivityChecks([port], { tcp: [], udp }, secrets, nomination, limits);
    }
    const more = isControlling
      ? await selectStripes(first, nominations, timeoutMs, signal)
      : await receiveSelection(first, nominations, signal);
    debug(() => `lane: ${more.length + 1} connections`);
    return more.length > 0 ? new StripedTransport([first, ...more]) : first;
  } catch (error) {
    first.close();
    for (const nomination of nominations) discard(nomination);
    throw error;
  } finally {
    finished.abort(new LaneError("all connections of the lane are chosen"));
    for (const nomination of nominations) nomination.close();
    for (const port of ports) port[Symbol.dispose]();
  }
}

function openPorts(wanted: number, any: string, certificate: Certificate): QuicPort[] {
  const ports: QuicPort[] = [];
  try {
    while (ports.length < wanted) ports.push(QuicPort.open(any, certificate)!);
  } catch (error) {
    debug(() => `lane: cannot open another port: ${error}`); // the lane has fewer connections
  }
  return ports;
}

/** Reads how many ports the other end has opened, and their numbers. */
async function receivePorts(first: Candidate): Promise<number[]> {
  const [count] = await first.readExactly(1);
  if (count! > MAX_EXTRA_STRIPES) throw new LaneError(`the other end asks for ${count} more ports`);
  const bytes = await first.readExactly(2 * count!);
  const ports = Array.from({ length: count! }, (_, i) => bytes[2 * i]! << 8 | bytes[2 * i + 1]!);
  if (ports.includes(0)) throw new LaneError("the other end names port 0");
  return ports;
}

/** Waits until a connection of each pair has got through, or the timeout. Tells the other end which have. */
async function selectStripes(
  first: Candidate,
  nominations: readonly Nomination[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Candidate[]> {
  const clock = AbortSignal.timeout(CLOCK_TIMEOUT_MS);
  const late = new LaneError("the connection did not get through in time");
  using timeout = new RunningTimeout(timeoutMs, late, clock, signal);
  const through = await Promise.all(
    nominations.map(({ nominated }) =>
      abortable(nominated, timeout.signal, (late) => late.close()).catch((error) => {
        debug(() => `lane: one connection less: ${error}`);
      })
    ),
  );
  signal.throwIfAborted();
  const used = through.reduce((bits, candidate, i) => candidate ? bits | 1 << i : bits, 0);
  await inTime(first.write(Uint8Array.of(used)), signal);
  return through.filter((candidate) => candidate !== undefined);
}

/** Reads which connections the other end has selected, and waits for their nominations. */
async function receiveSelection(
  first: Candidate,
  nominations: readonly Nomination[],
  signal: AbortSignal,
): Promise<Candidate[]> {
  const [bits] = await inTime(first.readExactly(1), signal);
  if (bits! >> nominations.length !== 0) {
    throw new LaneError("the other end selects a connection that does not exist");
  }
  const used: Promise<Candidate>[] = [];
  for (const [i, nomination] of nominations.entries()) {
    if ((bits! & 1 << i) !== 0) used.push(nomination.nominated);
    else discard(nomination);
  }
  // Each nomination comes on its own connection, perhaps a moment later than the selection.
  return await inTime(Promise.all(used), signal);
}

/** Closes what a nomination has, and what it still gets. */
function discard(nomination: Nomination): void {
  nomination.close();
  nomination.nominated.then((candidate) => candidate.close(), () => {}); // nothing was nominated
}

/** Waits for something that depends on the other end. */
async function inTime<T>(waiting: Promise<T>, signal: AbortSignal): Promise<T> {
  using timeout = new RunningTimeout(
    MESSAGE_TIMEOUT_MS,
    new LaneError("the other end sent nothing in time"),
    signal,
  );
  return await abortable(waiting, timeout.signal);
}
