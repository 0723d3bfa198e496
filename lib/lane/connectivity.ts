/** Connectivity checks: each end listens and dials the other. What gets through may become the lane. */

import { delayWhileRunning, LinkedSignal, RunningTimeout } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { Candidate } from "./candidate.ts";
import type { Nomination } from "./nomination.ts";
import { LaneError } from "./lane.ts";
import type { Offer } from "./offer.ts";
import { QuicPort } from "./quic.ts";
import { connectTls, type TlsPort } from "./tls.ts";

/** Timeout for the TLS or QUIC handshake and the secret of a connection that comes in: some round trips. */
export const VERIFY_TIMEOUT_MS = 2_000;
/** Maximum connections that have not shown the secret yet, per port. The peer itself opens a few. */
const MAX_UNVERIFIED = 8;
/**
 * Maximum length of a head start by the clock, as a multiple of its running time. It leaves a good part of the
 * checks' time to an end that is not overloaded.
 */
const MAX_CLOCK_FACTOR = 20;

/** What the two ends know each other by. */
export interface Secrets {
  /** The secret that the other end shows to this one. */
  readonly local: Uint8Array;
  /** The certificate of the other end, and the secret that this end shows to it. */
  readonly remote: Pick<Offer, "certificate" | "secret">;
}

/** What bounds the connectivity checks. */
export interface CheckLimits {
  /** Maximum connections accepted per port. */
  readonly maxConnections: number;
  /** {@linkcode VERIFY_TIMEOUT_MS}; tests pass a shorter one. */
  readonly verifyTimeoutMs?: number | undefined;
  /** Running time for which TLS is dialed before QUIC is. */
  readonly headStartMs?: number;
  /** Ends the checks. */
  readonly until: AbortSignal;
}

/**
 * Begins to listen on all ports, and to dial all addresses. Those for QUIC are dialed after the head start of TLS,
 * unless a connection is nominated by then.
 *
 * @param nomination Gets each connection that is authenticated and proven.
 */
export function runConnectivityChecks(
  ports: readonly (TlsPort | QuicPort)[],
  { tcp, udp }: Pick<Offer, "tcp" | "udp">,
  { local, remote }: Secrets,
  nomination: Nomination,
  limits: CheckLimits,
): void {
  const { until } = limits;
  for (const port of ports) {
    listen(port, local, nomination, limits).catch((error) => {
      debug(() => `lane: cannot accept: ${error}`); // another port or direction may get through
    });
  }
  const dial = async (dialing: ReturnType<typeof connectTls>) =>
    Candidate.authenticate(await dialing, remote.secret, until);
  for (const address of tcp) nomination.add(dial(connectTls(address, remote.certificate, until)));
  headStart(limits, nomination).then(() => {
    if (nomination.closed.aborted) return;
    for (const address of udp) {
      for (const port of ports) {
        if (!(port instanceof QuicPort)) continue;
        nomination.add(dial(port.connect(address, remote.certificate, until)));
      }
    }
  });
}

/** Waits for the head start of TLS. Returns earlier if a connection is nominated. Never rejects. */
async function headStart({ headStartMs = 0 }: CheckLimits, { closed }: Nomination): Promise<void> {
  // On an overloaded machine TLS takes longer, as everything does.
  using limit = new LinkedSignal([closed], { milliseconds: MAX_CLOCK_FACTOR * headStartMs });
  await delayWhileRunning(headStartMs, limit.signal).catch(() => {}); // the head start is over
}

async function listen(
  port: TlsPort | QuicPort,
  secret: Uint8Array,
  nomination: Nomination,
  { maxConnections, verifyTimeoutMs = VERIFY_TIMEOUT_MS, until }: CheckLimits,
): Promise<void> {
  const unverified = new Set<AbortController>();
  let connections = 0;
  for await (const accept of port.incoming()) {
    if (++connections > maxConnections) {
      await accept(AbortSignal.abort()).catch(() => {}); // an aborted accept closes the connection
      return; // another port may get through, or the session stays on iroh's stream
    }
    if (unverified.size >= MAX_UNVERIFIED) {
      const [oldest] = unverified;
      oldest!.abort(new LaneError("too many connections have not shown the secret"));
      unverified.delete(oldest!);
    }
    const dropped = new AbortController();
    unverified.add(dropped);
    const silent = new LaneError("the other end did not show the secret in time");
    const timeout = new RunningTimeout(verifyTimeoutMs, silent, dropped.signal, until);
    const { signal } = timeout;
    const verified = accept(signal).then((transport) => Candidate.verify(transport, secret, signal))
      .finally(() => {
        timeout[Symbol.dispose]();
        unverified.delete(dropped);
      });
    nomination.add(verified.then((candidate) => candidate.prove(until)));
  }
}
