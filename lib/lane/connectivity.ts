/** Both ends listen and dial each other; who gets through, and knows the secret, may become the lane. */

import { RunningTimeout } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { Candidate } from "./candidate.ts";
import type { Nomination } from "./nomination.ts";
import { LaneError } from "./lane.ts";
import type { Offer } from "./offer.ts";
import { QuicPort } from "./quic.ts";
import { connectTls, type TlsPort } from "./tls.ts";

/** For the handshake and the secret of somebody who connects. */
const VERIFY_LIMIT_MS = 2_000;
/** Who have connected and not yet shown the secret. */
const MOST_STRANGERS = 8;

/** How the two ends know each other. */
export interface Secrets {
  /** What is to be shown to this end. */
  readonly local: Uint8Array;
  /** What the other end shows, and what is to be shown to it. */
  readonly remote: Pick<Offer, "certificate" | "secret">;
}

/**
 * Begins to listen on all ports, and to dial all addresses.
 *
 * @param nomination Is given what gets through.
 * @param most Who may connect to each port, ever.
 * @param until Ends it.
 */
export function runConnectivityChecks(
  ports: readonly (TlsPort | QuicPort)[],
  { tcp, udp }: Pick<Offer, "tcp" | "udp">,
  { local, remote }: Secrets,
  nomination: Nomination,
  most: number,
  until: AbortSignal,
): void {
  for (const port of ports) {
    listen(port, local, nomination, most, until).catch((error) => {
      debug(() => `lane: cannot accept: ${error}`); // there are other ways
    });
  }
  const dial = async (dialing: ReturnType<typeof connectTls>) =>
    Candidate.authenticate(await dialing, remote.secret, until);
  for (const address of tcp) nomination.add(dial(connectTls(address, remote.certificate, until)));
  for (const address of udp) {
    for (const port of ports) {
      if (!(port instanceof QuicPort)) continue;
      nomination.add(dial(port.connect(address, remote.certificate, until)));
    }
  }
}

async function listen(
  port: TlsPort | QuicPort,
  secret: Uint8Array,
  nomination: Nomination,
  most: number,
  until: AbortSignal,
): Promise<void> {
  const strangers = new Set<AbortController>();
  let connections = 0;
  for await (const accept of port.incoming()) {
    if (++connections > most) {
      await accept(AbortSignal.abort()).catch(() => {}); // which closes it
      return; // there are other ways, iroh's own among them
    }
    if (strangers.size >= MOST_STRANGERS) {
      const [oldest] = strangers;
      oldest!.abort(new LaneError("there are too many"));
      strangers.delete(oldest!);
    }
    const stranger = new AbortController();
    strangers.add(stranger);
    const silent = new LaneError("it is silent");
    const limit = new RunningTimeout(VERIFY_LIMIT_MS, silent, stranger.signal, until);
    const { signal } = limit;
    const verified = accept(signal).then((transport) => Candidate.verify(transport, secret, signal))
      .finally(() => {
        limit[Symbol.dispose]();
        strangers.delete(stranger);
      });
    nomination.add(verified.then((candidate) => candidate.prove(until)));
  }
}
