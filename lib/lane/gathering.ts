/**
 * Making a lane: both ends listen, dial each other, and take one of what gets through, or with QUIC
 * several. docs/protocol.md says how, and why.
 */

import { isIPv4, isIPv6 } from "node:net";
import { abortable, RunningTimeout } from "../async/abort.ts";
import { socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";
import { type Certificate, makeCertificate } from "./certificate.ts";
import { Nomination } from "./nomination.ts";
import { type Lane, LaneError } from "./lane.ts";
import { runConnectivityChecks } from "./connectivity.ts";
import { type Offer, SECRET_BYTES } from "./offer.ts";
import { QuicPort } from "./quic.ts";
import { TlsPort } from "./tls.ts";
import { addStripes } from "./striping.ts";

/** From the offers to the choice, for whoever chooses, who then tells the other end that there is none. */
const LIMIT_MS = 8_000;
/** The same by the clock. The other end has longer: for what has been chosen it must still wait. */
const CONTROLLING_CLOCK_LIMIT_MS = 25_000, CLOCK_LIMIT_MS = 30_000;
/** TLS is some half faster, at half the CPU: worth a wait during which nothing stands still. */
const TLS_HEAD_START_MS = 300;
/**
 * Who may connect to a port, ever. Deno does not close a TCP connection in the middle of a TLS
 * handshake before the other side has said something, so that silent ones pile up as long as they want.
 */
const MOST_CONNECTIONS = 64;

/** An end that listens. Dispose of it when the lane is made, or will not be. */
export class LaneEndpoint implements Disposable {
  /** How the other end can reach this one. */
  readonly offer: Offer;
  #certificate: Certificate;
  #ports: readonly (TlsPort | QuicPort)[];
  #closed = new AbortController();

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
  static async open(hosts: readonly string[]): Promise<LaneEndpoint> {
    const certificate = await makeCertificate();
    const tcp: string[] = [], udp: string[] = [], ports: (TlsPort | QuicPort)[] = [];
    for (const [any, isOf] of [["0.0.0.0", isIPv4], ["::", isIPv6]] as const) {
      const fitting = hosts.filter((host) => isOf(host));
      if (fitting.length === 0) continue;
      const openTls = () => new TlsPort(any, certificate);
      const openQuic = () => QuicPort.open(any, certificate);
      for (const [open, list] of [[openTls, tcp], [openQuic, udp]] as const) {
        try {
          const port = open();
          if (!port) continue;
          ports.push(port);
          list.push(...fitting.map((host) => socketAddress(host, port.port)));
        } catch (error) {
          debug(() => `lane: cannot listen on ${any}: ${error}`); // there are other ways
        }
      }
    }
    const secret = crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
    const offer = { certificate: certificate.der, secret, tcp, udp };
    return new LaneEndpoint(offer, certificate, ports);
  }

  /**
   * Makes a lane with an end whose offer is known, while it does the same.
   *
   * @param observedRemote IP address at which iroh sees the other end, if it does.
   * @param isControlling Whether it is this end that chooses.
   * @param isWorthTrying What is neither dialed nor chosen.
   * @throws {LaneError} if nothing gets through, or the signal's reason.
   */
  async establish(
    remote: Offer,
    observedRemote: string | undefined,
    isControlling: boolean,
    signal: AbortSignal,
    isWorthTrying: (kind: Lane["kind"], remoteHost: string) => boolean = () => true,
  ): Promise<Lane> {
    const nothing = new LaneError("nothing gets through");
    const last = AbortSignal.timeout(CLOCK_LIMIT_MS);
    const clock = isControlling ? AbortSignal.timeout(CONTROLLING_CLOCK_LIMIT_MS) : last;
    const ended = AbortSignal.any([signal, clock, this.#closed.signal]);
    using awake = isControlling ? new RunningTimeout(LIMIT_MS, nothing, ended) : undefined;
    const until = awake?.signal ?? ended;
    const isWorthDialing = (kind: Lane["kind"]) => (address: string) =>
      isWorthTrying(kind, splitSocketAddress(address).host);
    const addresses = {
      tcp: withHost(remote.tcp, observedRemote).filter(isWorthDialing("TLS")),
      udp: withHost(remote.udp, observedRemote).filter(isWorthDialing("QUIC")),
    };
    const isHopeless = addresses.tcp.length === 0 && addresses.udp.length === 0;
    if (isControlling && isHopeless) throw new LaneError("nothing is worth a try");
    const secrets = { local: this.offer.secret, remote };
    const nomination = new Nomination(isControlling, TLS_HEAD_START_MS, until, isWorthTrying);
    runConnectivityChecks(this.#ports, addresses, secrets, nomination, MOST_CONNECTIONS, until);
    try {
      // Also for what was chosen and cannot be told so.
      const limit = AbortSignal.any([signal, last]);
      const first = await abortable(nomination.nominated, limit, (candidate) => candidate.close());
      if (first.kind === "TLS") return first;
      return await addStripes(first, this.#certificate, secrets, isControlling, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw error === clock.reason || error === last.reason ? nothing : error;
    } finally {
      nomination.close();
    }
  }

  [Symbol.dispose](): void {
    this.#closed.abort(new LaneError("the ports are closed"));
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
