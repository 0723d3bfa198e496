/** From one QUIC connection to several, by which the bytes are then dealt out (bundle.ts). */

import { isIPv6 } from "node:net";
import { abortable, AwakeLimit } from "../async/abort.ts";
import { socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";
import { Bundle } from "./striped_transport.ts";
import type { Candidate } from "./candidate.ts";
import type { Certificate } from "./certificate.ts";
import { Choice } from "./nomination.ts";
import { LaneError, type Transport } from "./lane.ts";
import { meet, type Secrets } from "./connectivity.ts";
import { QuicPort } from "./quic.ts";

/** How many more this end wants. */
const MORE = 3;
/** How many the other end may want: what is used of them is told in one byte. */
const MOST_MORE = 8;
/** Who may connect to each of their ports, ever. */
const MOST_CONNECTIONS = 8;
/** For them to get through, and the same by the clock. */
const LIMIT_MS = 2_000, CLOCK_LIMIT_MS = 10_000;
/** For what the other end is to say, which waits for them, too. */
const WORD_LIMIT_MS = 15_000;

/**
 * Makes more connections beside the first, with ports of their own, as the first was made; on the first
 * the two ends tell each other the ports.
 *
 * @param certificate What this end shows on them.
 * @param chooses Whether it is this end that says which of them are used.
 * @returns All that are used, as one, which is then the one to close them; the first alone if no other gets through.
 * @throws {LaneError} if the other end does not do as it should, what Deno says if the first breaks, or the
 * signal's reason. The first is closed then.
 */
export async function widen(
  first: Candidate,
  certificate: Certificate,
  secrets: Secrets,
  chooses: boolean,
  signal: AbortSignal,
): Promise<Transport> {
  const { host } = splitSocketAddress(first.remote);
  const own = openPorts(isIPv6(host) ? "::" : "0.0.0.0", certificate);
  const over = new AbortController();
  const until = AbortSignal.any([signal, over.signal]);
  const choices: Choice[] = [];
  try {
    const told = own.flatMap(({ port }) => [port >> 8, port & 0xff]);
    await inTime(first.write(Uint8Array.of(own.length, ...told)), signal);
    const theirs = (await inTime(portsOf(first), signal)).slice(0, own.length);
    for (const port of own.splice(theirs.length)) port[Symbol.dispose](); // not wanted
    for (const [i, port] of own.entries()) {
      const choice = new Choice(chooses, 0, until);
      choices.push(choice);
      const udp = [socketAddress(host, theirs[i]!)];
      meet([port], { tcp: [], udp }, secrets, choice, MOST_CONNECTIONS, until);
    }
    const more = chooses
      ? await whatGetsThrough(first, choices, signal)
      : await whatIsUsed(first, choices, signal);
    debug(() => `lane: ${more.length + 1} connections`);
    return more.length > 0 ? new Bundle([first, ...more]) : first;
  } catch (error) {
    first.close();
    for (const choice of choices) discard(choice);
    throw error;
  } finally {
    over.abort(new LaneError("it is wide enough"));
    for (const choice of choices) choice.close();
    for (const port of own) port[Symbol.dispose]();
  }
}

function openPorts(any: string, certificate: Certificate): QuicPort[] {
  const ports: QuicPort[] = [];
  try {
    while (ports.length < MORE) ports.push(QuicPort.open(any, certificate)!);
  } catch (error) {
    debug(() => `lane: no more ports: ${error}`); // there may be enough of them
  }
  return ports;
}

/** What the other end tells: how many ports, and which. */
async function portsOf(first: Candidate): Promise<number[]> {
  const [count] = await first.take(1);
  if (count! > MOST_MORE) throw new LaneError(`${count} more ports`);
  const bytes = await first.take(2 * count!);
  const ports = Array.from({ length: count! }, (_, i) => bytes[2 * i]! << 8 | bytes[2 * i + 1]!);
  if (ports.includes(0)) throw new LaneError("a port 0");
  return ports;
}

/** What has got through in time, which the other end is told. */
async function whatGetsThrough(
  first: Candidate,
  choices: readonly Choice[],
  signal: AbortSignal,
): Promise<Candidate[]> {
  const clock = AbortSignal.timeout(CLOCK_LIMIT_MS);
  using limit = new AwakeLimit(LIMIT_MS, new LaneError("it is late"), clock, signal);
  const through = await Promise.all(
    choices.map(({ made }) =>
      abortable(made, limit.signal, (late) => late.close()).catch((error) => {
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
async function whatIsUsed(
  first: Candidate,
  choices: readonly Choice[],
  signal: AbortSignal,
): Promise<Candidate[]> {
  const [bits] = await inTime(first.take(1), signal);
  if (bits! >> choices.length !== 0) throw new LaneError("connections that there are not");
  const used: Promise<Candidate>[] = [];
  for (const [i, choice] of choices.entries()) {
    if ((bits! & 1 << i) !== 0) used.push(choice.made);
    else discard(choice);
  }
  // Which they are has been said on each of them, and may come a moment later than this.
  return await inTime(Promise.all(used), signal);
}

/** Also where it was, or will be, taken. */
function discard(choice: Choice): void {
  choice.close();
  choice.made.then((candidate) => candidate.close(), () => {}); // it is broken already
}

/** What depends on the other end. */
async function inTime<T>(waiting: Promise<T>, signal: AbortSignal): Promise<T> {
  using limit = new AwakeLimit(WORD_LIMIT_MS, new LaneError("the other end says no more"), signal);
  return await abortable(waiting, limit.signal);
}
