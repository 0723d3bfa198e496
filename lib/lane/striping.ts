/** From one QUIC connection to several, by which the bytes are then dealt out (striped_transport.ts). */

import { isIPv6 } from "node:net";
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

/** How many more this end wants. */
const EXTRA_STRIPES = 3;
/** How many the other end may want: what is used of them is told in one byte. */
const MOST_EXTRA_STRIPES = 8;
/** Who may connect to each of their ports, ever. */
const MOST_CONNECTIONS = 8;
/** For them to get through, and the same by the clock. */
const LIMIT_MS = 2_000, CLOCK_LIMIT_MS = 10_000;
/** For what the other end is to say, which waits for them, too. */
const MESSAGE_LIMIT_MS = 15_000;

/**
 * Makes more connections beside the first, with ports of their own, as the first was made; on the first
 * the two ends tell each other the ports.
 *
 * @param certificate What this end shows on them.
 * @param isControlling Whether it is this end that says which of them are used.
 * @returns All that are used, as one, which is then the one to close them; the first alone if no other gets through.
 * @throws {LaneError} if the other end does not do as it should, what Deno says if the first breaks, or the
 * signal's reason. The first is closed then.
 */
export async function addStripes(
  first: Candidate,
  certificate: Certificate,
  secrets: Secrets,
  isControlling: boolean,
  signal: AbortSignal,
): Promise<Transport> {
  const { host } = splitSocketAddress(first.remote);
  const ports = openPorts(isIPv6(host) ? "::" : "0.0.0.0", certificate);
  const finished = new AbortController();
  const until = AbortSignal.any([signal, finished.signal]);
  const nominations: Nomination[] = [];
  try {
    const announced = ports.flatMap(({ port }) => [port >> 8, port & 0xff]);
    await inTime(first.write(Uint8Array.of(ports.length, ...announced)), signal);
    const remotePorts = (await inTime(receivePorts(first), signal)).slice(0, ports.length);
    for (const port of ports.splice(remotePorts.length)) port[Symbol.dispose](); // not wanted
    for (const [i, port] of ports.entries()) {
      const nomination = new Nomination(isControlling, 0, until);
      nominations.push(nomination);
      const udp = [socketAddress(host, remotePorts[i]!)];
      runConnectivityChecks([port], { tcp: [], udp }, secrets, nomination, MOST_CONNECTIONS, until);
    }
    const more = isControlling
      ? await selectStripes(first, nominations, signal)
      : await receiveSelection(first, nominations, signal);
    debug(() => `lane: ${more.length + 1} connections`);
    return more.length > 0 ? new StripedTransport([first, ...more]) : first;
  } catch (error) {
    first.close();
    for (const nomination of nominations) discard(nomination);
    throw error;
  } finally {
    finished.abort(new LaneError("it is wide enough"));
    for (const nomination of nominations) nomination.close();
    for (const port of ports) port[Symbol.dispose]();
  }
}

function openPorts(any: string, certificate: Certificate): QuicPort[] {
  const ports: QuicPort[] = [];
  try {
    while (ports.length < EXTRA_STRIPES) ports.push(QuicPort.open(any, certificate)!);
  } catch (error) {
    debug(() => `lane: no more ports: ${error}`); // there may be enough of them
  }
  return ports;
}

/** What the other end tells: how many ports, and which. */
async function receivePorts(first: Candidate): Promise<number[]> {
  const [count] = await first.readExactly(1);
  if (count! > MOST_EXTRA_STRIPES) throw new LaneError(`${count} more ports`);
  const bytes = await first.readExactly(2 * count!);
  const ports = Array.from({ length: count! }, (_, i) => bytes[2 * i]! << 8 | bytes[2 * i + 1]!);
  if (ports.includes(0)) throw new LaneError("a port 0");
  return ports;
}

/** What has got through in time, which the other end is told. */
async function selectStripes(
  first: Candidate,
  nominations: readonly Nomination[],
  signal: AbortSignal,
): Promise<Candidate[]> {
  const clock = AbortSignal.timeout(CLOCK_LIMIT_MS);
  using limit = new RunningTimeout(LIMIT_MS, new LaneError("it is late"), clock, signal);
  const through = await Promise.all(
    nominations.map(({ nominated }) =>
      abortable(nominated, limit.signal, (late) => late.close()).catch((error) => {
        debug(() => `lane: one connection less: ${error}`);
      })
    ),
  );
  signal.throwIfAborted();
  const used = through.reduce((bits, candidate, i) => candidate ? bits | 1 << i : bits, 0);
  await inTime(first.write(Uint8Array.of(used)), signal);
  return through.filter((candidate) => candidate !== undefined);
}

/** What the other end says is used. */
async function receiveSelection(
  first: Candidate,
  nominations: readonly Nomination[],
  signal: AbortSignal,
): Promise<Candidate[]> {
  const [bits] = await inTime(first.readExactly(1), signal);
  if (bits! >> nominations.length !== 0) throw new LaneError("connections that there are not");
  const used: Promise<Candidate>[] = [];
  for (const [i, nomination] of nominations.entries()) {
    if ((bits! & 1 << i) !== 0) used.push(nomination.nominated);
    else discard(nomination);
  }
  // Which they are has been said on each of them, and may come a moment later than this.
  return await inTime(Promise.all(used), signal);
}

/** Also where it was, or will be, taken. */
function discard(nomination: Nomination): void {
  nomination.close();
  nomination.nominated.then((candidate) => candidate.close(), () => {}); // it is broken already
}

/** What depends on the other end. */
async function inTime<T>(waiting: Promise<T>, signal: AbortSignal): Promise<T> {
  using limit = new RunningTimeout(
    MESSAGE_LIMIT_MS,
    new LaneError("the other end says no more"),
    signal,
  );
  return await abortable(waiting, limit.signal);
}
