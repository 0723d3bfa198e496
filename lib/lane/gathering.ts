/**
 * Making a lane: both ends listen, dial each other, and take one of what gets through, or with QUIC
 * several. docs/protocol.md says how, and why.
 */

import { isIPv4, isIPv6 } from "node:net";
import { abortable, AwakeLimit } from "../async/abort.ts";
import { socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";
import { type Certificate, makeCertificate } from "./certificate.ts";
import { Choice } from "./nomination.ts";
import { Lane, LaneError } from "./lane.ts";
import { meet } from "./connectivity.ts";
import { type Offer, SECRET_BYTES } from "./offer.ts";
import { QuicPort } from "./quic.ts";
import { TlsPort } from "./tls.ts";
import { widen } from "./striping.ts";

/** From the offers to the choice, for whoever chooses, who then tells the other end that there is none. */
const LIMIT_MS = 8_000;
/** The same by the clock. The other end has longer: for what has been chosen it must still wait. */
const CHOOSER_CLOCK_LIMIT_MS = 25_000, CLOCK_LIMIT_MS = 30_000;
/** TLS is some half faster, at half the CPU: worth a wait during which nothing stands still. */
const TLS_HEAD_START_MS = 300;
/**
 * Who may connect to a port, ever. Deno does not close a TCP connection in the middle of a TLS
 * handshake before the other side has said something, so that silent ones pile up as long as they want.
 */
const MOST_CONNECTIONS = 64;

/** An end that listens. Dispose of it when the lane is made, or will not be. */
export class LanePorts implements Disposable {
  /** How the other end can reach this one. */
  readonly offer: Offer;
  #certificate: Certificate;
  #ports: readonly (TlsPort | QuicPort)[];
  #over = new AbortController();

  private constructor(
    offer: Offer,
    certificate: Certificate,
    ports: readonly (TlsPort | QuicPort)[],
  ) {
    this.offer = offer;
    this.#certificate = certificate;
    this.#ports = ports;
  }

  /**
   * Opens ports.
   *
   * @param hosts IP addresses by which the other end may reach this one.
   * @throws What the system says, if none can be opened.
   */
  static async open(hosts: readonly string[]): Promise<LanePorts> {
    const certificate = await makeCertificate();
    const tcp: string[] = [], udp: string[] = [], ports: (TlsPort | QuicPort)[] = [];
    for (const [any, isOf] of [["0.0.0.0", isIPv4], ["::", isIPv6]] as const) {
      const own = hosts.filter((host) => isOf(host));
      if (own.length === 0) continue;
      const openTls = () => new TlsPort(any, certificate);
      const openQuic = () => QuicPort.open(any, certificate);
      for (const [open, list] of [[openTls, tcp], [openQuic, udp]] as const) {
        try {
          const port = open();
          if (!port) continue;
          ports.push(port);
          list.push(...own.map((host) => socketAddress(host, port.port)));
        } catch (error) {
          debug(() => `lane: cannot listen on ${any}: ${error}`); // there are other ways
        }
      }
    }
    const secret = crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
    const offer = { certificate: certificate.der, secret, tcp, udp };
    return new LanePorts(offer, certificate, ports);
  }

  /**
   * Makes a lane with an end whose offer is known, while it does the same.
   *
   * @param seenAt IP address at which iroh sees the other end, if it does.
   * @param chooses Whether it is this end that chooses.
   * @throws {LaneError} if nothing gets through, or the signal's reason.
   */
  async make(
    theirs: Offer,
    seenAt: string | undefined,
    chooses: boolean,
    signal: AbortSignal,
  ): Promise<Lane> {
    const nothing = new LaneError("nothing gets through");
    const last = AbortSignal.timeout(CLOCK_LIMIT_MS);
    const clock = chooses ? AbortSignal.timeout(CHOOSER_CLOCK_LIMIT_MS) : last;
    const over = AbortSignal.any([signal, clock, this.#over.signal]);
    using awake = chooses ? new AwakeLimit(LIMIT_MS, nothing, over) : undefined;
    const until = awake?.signal ?? over;
    const addresses = { tcp: withHost(theirs.tcp, seenAt), udp: withHost(theirs.udp, seenAt) };
    const secrets = { own: this.offer.secret, theirs };
    const choice = new Choice(chooses, TLS_HEAD_START_MS, until);
    meet(this.#ports, addresses, secrets, choice, MOST_CONNECTIONS, until);
    try {
      // Also for what was chosen and cannot be told so.
      const limit = AbortSignal.any([signal, last]);
      const first = await abortable(choice.made, limit, (candidate) => candidate.close());
      if (first.kind === "TLS") return new Lane(first);
      return new Lane(await widen(first, this.#certificate, secrets, chooses, signal));
    } catch (error) {
      signal.throwIfAborted();
      throw error === clock.reason || error === last.reason ? nothing : error;
    } finally {
      choice.close();
    }
  }

  [Symbol.dispose](): void {
    this.#over.abort(new LaneError("the ports are closed"));
    for (const port of this.#ports) port[Symbol.dispose]();
  }
}

/** Addresses, and the same ports at one more host. */
function withHost(addresses: readonly string[], host: string | undefined): string[] {
  const more = host === undefined
    ? []
    : addresses.filter((address) => isIPv6(splitSocketAddress(address).host) === isIPv6(host))
      .map((address) => socketAddress(host, splitSocketAddress(address).port));
  return [...new Set([...addresses, ...more])];
}
