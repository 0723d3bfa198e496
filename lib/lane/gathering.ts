/**
 * Makes a lane: each end opens ports, tells the other where they are, and dials the other's. The end that
 * controls chooses one of the connections that get through. docs/protocol.md, "Making a lane"
 */

import { isIPv4, isIPv6 } from "../platform/ip_address.ts";
import { abortable, RunningTimeout } from "../async/abort.ts";
import { socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";
import { type Certificate, makeCertificate } from "./certificate.ts";
import { dialableHosts } from "./dialable.ts";
import { type IsWorthTrying, Nomination } from "./nomination.ts";
import { LaneError, type Transport } from "./lane.ts";
import { runConnectivityChecks, VERIFY_TIMEOUT_MS } from "./connectivity.ts";
import { type Offer, SECRET_BYTES } from "./offer.ts";
import { QuicPort } from "./quic.ts";
import { TlsPort } from "./tls.ts";
import { addStripes, STRIPES_TIMEOUT_MS } from "./striping.ts";

/**
 * Timeout from the offers to the nomination, in running time, at the end that controls. That end then closes
 * the lane stream, and so tells the other end.
 */
const CHECKS_TIMEOUT_MS = 8_000;
/**
 * Timeouts for that by the clock. The other end has the longer one, since it must still wait for a nomination
 * that is on its way.
 */
const CONTROLLING_CLOCK_TIMEOUT_MS = 25_000, CLOCK_TIMEOUT_MS = 30_000;
/**
 * Running time for which TLS is dialed before QUIC is. TLS is about 1.5 times as fast at half the CPU. If it gets
 * through, the handshakes of QUIC are saved, too. The session moves data on iroh's stream meanwhile.
 */
const TLS_HEAD_START_MS = 300;
/**
 * Maximum connections accepted per port. Deno cannot close a TCP connection during the TLS handshake before
 * the other end has sent something. Silent connections would therefore pile up.
 */
const MAX_CONNECTIONS = 64;

/** Timeouts of making a lane, in running time. */
export interface LaneTimeouts {
  /** From the offers to the nomination. */
  readonly checksMs: number;
  /** For the handshake and the secret of a connection that comes in. */
  readonly verifyMs: number;
  /** For the further connections of a QUIC lane. */
  readonly stripesMs: number;
}

/** The timeouts that apply unless a test passes others. */
export const LANE_TIMEOUTS: LaneTimeouts = {
  checksMs: CHECKS_TIMEOUT_MS,
  verifyMs: VERIFY_TIMEOUT_MS,
  stripesMs: STRIPES_TIMEOUT_MS,
};

/** How iroh sees the other end. Both are undefined if it sees it only through a relay. */
export interface ObservedPeer {
  /** IP address of the other end. */
  readonly observedRemote?: string | undefined;
  /** Round trip on the way to that address. On a busy machine it seems longer. */
  readonly roundTripMs?: number | undefined;
}

/** The ports of one end. Dispose of it once the lane is made or has failed. */
export class LaneEndpoint implements Disposable {
  /** Tells the other end how to reach this one. */
  readonly offer: Offer;
  #certificate: Certificate;
  #ports: readonly (TlsPort | QuicPort)[];
  #timeouts: LaneTimeouts;
  #closed = new AbortController();

  private constructor(
    offer: Offer,
    certificate: Certificate,
    ports: readonly (TlsPort | QuicPort)[],
    timeouts: LaneTimeouts,
  ) {
    this.offer = offer;
    this.#certificate = certificate;
    this.#ports = ports;
    this.#timeouts = timeouts;
  }

  /**
   * Opens the ports that can be opened: TLS and QUIC, on IPv4 and IPv6.
   *
   * @param hosts IP addresses at which the other end may reach this one.
   */
  static async open(
    hosts: readonly string[],
    timeouts: Partial<LaneTimeouts> = {},
  ): Promise<LaneEndpoint> {
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
          debug(() => `lane: cannot listen on ${any}: ${error}`); // another port may do
        }
      }
    }
    const secret = crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
    const offer = { certificate: certificate.der, secret, tcp, udp };
    return new LaneEndpoint(offer, certificate, ports, { ...LANE_TIMEOUTS, ...timeouts });
  }

  /**
   * Makes the connection of a lane. The other end does the same.
   *
   * @param remote The offer of the other end.
   * @param observed How iroh sees the other end.
   * @param isControlling True at the end that chooses.
   * @param isWorthTrying Tells which lanes may be dialed and chosen.
   * @throws {LaneError} if nothing gets through, or the signal's reason.
   */
  async establish(
    remote: Offer,
    { observedRemote, roundTripMs }: ObservedPeer,
    isControlling: boolean,
    signal: AbortSignal,
    isWorthTrying: IsWorthTrying = () => true,
  ): Promise<Transport> {
    const { checksMs, verifyMs, stripesMs } = this.#timeouts;
    const nothing = new LaneError("nothing gets through");
    const last = AbortSignal.timeout(CLOCK_TIMEOUT_MS);
    const clock = isControlling ? AbortSignal.timeout(CONTROLLING_CLOCK_TIMEOUT_MS) : last;
    const ended = AbortSignal.any([signal, clock, this.#closed.signal]);
    using timeout = isControlling ? new RunningTimeout(checksMs, nothing, ended) : undefined;
    const until = timeout?.signal ?? ended;
    const isWorthDialing = (kind: Transport["kind"]) => (address: string) =>
      isWorthTrying(kind, splitSocketAddress(address).host);
    const addresses = {
      tcp: withHost(remote.tcp, observedRemote).filter(isWorthDialing("TLS")),
      udp: withHost(remote.udp, observedRemote).filter(isWorthDialing("QUIC")),
    };
    const isOffered = remote.tcp.length + remote.udp.length > 0;
    const isHopeless = isOffered && addresses.tcp.length + addresses.udp.length === 0;
    if (isControlling && isHopeless) throw new LaneError("nothing is worth a try");
    const secrets = { local: this.offer.secret, remote };
    const nomination = new Nomination(isControlling, until, isWorthTrying);
    const limits = {
      maxConnections: MAX_CONNECTIONS,
      verifyTimeoutMs: verifyMs,
      headStartMs: TLS_HEAD_START_MS,
      until,
    };
    const isHostDialable = dialableHosts(observedRemote);
    const isDialable = (address: string) => isHostDialable(splitSocketAddress(address).host);
    const dialed = {
      tcp: addresses.tcp.filter(isDialable),
      udp: addresses.udp.filter(isDialable),
    };
    runConnectivityChecks(this.#ports, dialed, secrets, nomination, limits);
    try {
      // This wait ends even if a connection is chosen and the nomination cannot be sent.
      const limit = AbortSignal.any([signal, last]);
      const first = await abortable(nomination.nominated, limit, (candidate) => candidate.close());
      if (first.kind === "TLS") return first;
      const isSameWay = splitSocketAddress(first.remote).host === observedRemote;
      return await addStripes(first, this.#certificate, secrets, {
        isControlling,
        roundTripMs: isSameWay ? roundTripMs : undefined,
        signal,
        timeoutMs: stripesMs,
      });
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

/** Returns the addresses, and first each port of theirs at one more host. */
function withHost(addresses: readonly string[], host: string | undefined): string[] {
  const more = host === undefined
    ? []
    : addresses.filter((address) => isIPv6(splitSocketAddress(address).host) === isIPv6(host))
      .map((address) => socketAddress(host, splitSocketAddress(address).port));
  return [...new Set([...more, ...addresses])];
}
