/**
 * Making a lane: both ends listen, dial each other, and take one of what gets through. docs/protocol.md
 * says how, and why.
 */

import { Buffer } from "node:buffer";
import { timingSafeEqual } from "node:crypto";
import { isIPv4, isIPv6 } from "node:net";
import { abortable, delay } from "../abortable.ts";
import { socketAddress, splitSocketAddress } from "../socket_address.ts";
import { debug } from "../stderr.ts";
import { makeCertificate } from "./certificate.ts";
import { Lane, LaneError, type Transport } from "./lane.ts";
import { type Offer, SECRET_BYTES } from "./offer.ts";
import { QuicPort } from "./quic.ts";
import { connectTls, TlsPort } from "./tls.ts";

/** From the offers to the choice. */
const LIMIT_MS = 10_000;
/** Whoever chooses gives up first: what it has chosen the other end must still wait for. */
const CHOOSER_LIMIT_MS = 8_000;
/** For the handshake and the secret of somebody who connects. */
const GREETING_LIMIT_MS = 2_000;
/** TLS is some half faster, at half the CPU: worth a wait during which nothing stands still. */
const TLS_HEAD_START_MS = 300;
/** Who have connected and not yet shown the secret. */
const MOST_STRANGERS = 8;
/**
 * Who have connected to a port, ever. Deno does not close a TCP connection in the middle of a TLS
 * handshake before the other side has said something, so that silent ones pile up as long as they want.
 */
const MOST_CONNECTIONS = 64;
const WELCOME = 1, CHOSEN = 2;

/** An end that listens. Dispose of it when the lane is made, or will not be. */
export class LanePorts implements Disposable {
  /** How the other end can reach this one. */
  readonly offer: Offer;
  #ports: readonly (TlsPort | QuicPort)[];
  #over = new AbortController();

  private constructor(offer: Offer, ports: readonly (TlsPort | QuicPort)[]) {
    this.offer = offer;
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
    return new LanePorts({ certificate: certificate.der, secret, tcp, udp }, ports);
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
    const late = AbortSignal.timeout(chooses ? CHOOSER_LIMIT_MS : LIMIT_MS);
    const until = AbortSignal.any([signal, late, this.#over.signal]);
    const choice = new Choice(chooses);
    for (const port of this.#ports) {
      this.#listen(port, choice, until).catch((error) => {
        debug(() => `lane: cannot accept: ${error}`); // there are other ways
      });
    }
    for (const address of withHost(theirs.tcp, seenAt)) {
      choice.add(connectTls(address, theirs.certificate, until).then(greet(theirs.secret, until)));
    }
    for (const address of withHost(theirs.udp, seenAt)) {
      for (const port of this.#ports) {
        if (!(port instanceof QuicPort)) continue;
        const dialing = port.connect(address, theirs.certificate, until);
        choice.add(dialing.then(greet(theirs.secret, until)));
      }
    }
    try {
      return await abortable(choice.made, until, (lane) => lane.close());
    } catch (error) {
      signal.throwIfAborted();
      throw error === late.reason ? new LaneError("nothing gets through") : error;
    } finally {
      choice.close();
    }
  }

  async #listen(port: TlsPort | QuicPort, choice: Choice, until: AbortSignal): Promise<void> {
    const strangers = new Set<AbortController>();
    let connections = 0;
    for await (const accept of port.incoming()) {
      if (++connections > MOST_CONNECTIONS) {
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
      const timer = setTimeout(
        () => stranger.abort(new LaneError("it is silent")),
        GREETING_LIMIT_MS,
      );
      const signal = AbortSignal.any([until, stranger.signal]);
      const greeted = accept(signal).then((transport) => this.#letIn(transport, signal));
      choice.add(greeted.finally(() => {
        clearTimeout(timer);
        strangers.delete(stranger);
      }));
    }
  }

  async #letIn(transport: Transport, signal: AbortSignal): Promise<Lane> {
    const lane = new Lane(transport);
    try {
      const shown = await abortable(lane.take(SECRET_BYTES), signal);
      if (!timingSafeEqual(Buffer.from(shown), Buffer.from(this.offer.secret))) {
        throw new LaneError(`${lane.remote} does not know the secret`);
      }
      await abortable(lane.write(Uint8Array.of(WELCOME)), signal);
      return lane;
    } catch (error) {
      lane.close();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#over.abort(new LaneError("the ports are closed"));
    for (const port of this.#ports) port[Symbol.dispose]();
  }
}

/** Dialing end: shows the secret, and waits to be let in. */
function greet(secret: Uint8Array, signal: AbortSignal): (transport: Transport) => Promise<Lane> {
  return async (transport) => {
    const lane = new Lane(transport);
    try {
      await abortable(lane.write(secret), signal);
      const [answer] = await abortable(lane.take(1), signal);
      if (answer !== WELCOME) throw new LaneError("it was not let in");
      return lane;
    } catch (error) {
      lane.close();
      throw error;
    }
  };
}

/** Which of the connections that get through is the lane. */
class Choice {
  #chooses: boolean;
  #made = Promise.withResolvers<Lane>();
  #candidates = new Set<Lane>();
  #head = new AbortController();
  #over = false;

  constructor(chooses: boolean) {
    this.#chooses = chooses;
    this.#made.promise.catch(() => {}); // told to whoever awaits it
  }

  get made(): Promise<Lane> {
    return this.#made.promise;
  }

  /** What may become a lane. */
  async add(coming: Promise<Lane>): Promise<void> {
    let lane: Lane;
    try {
      lane = await coming;
    } catch (error) {
      return debug(() => `lane: ${error instanceof Error ? error.message : error}`);
    }
    if (this.#over) return lane.close();
    debug(() => `lane: ${lane.kind} with ${lane.remote} gets through`);
    this.#candidates.add(lane);
    try {
      if (this.#chooses) await this.#choose(lane);
      else await this.#waitToBeChosen(lane);
    } catch (error) {
      debug(() => `lane: ${lane.kind} with ${lane.remote}: ${error}`);
      this.#candidates.delete(lane);
      lane.close();
    }
  }

  async #choose(lane: Lane): Promise<void> {
    // Aborted when the choice has been made.
    if (lane.kind === "QUIC") await delay(TLS_HEAD_START_MS, this.#head.signal).catch(() => {});
    if (this.#over) return;
    this.#take(lane);
    await lane.write(Uint8Array.of(CHOSEN));
    this.#made.resolve(lane);
  }

  async #waitToBeChosen(lane: Lane): Promise<void> {
    const [word] = await lane.take(1);
    if (this.#over) return;
    if (word !== CHOSEN) throw new LaneError("it says something else");
    this.#take(lane);
    this.#made.resolve(lane);
  }

  #take(lane: Lane): void {
    this.#candidates.delete(lane);
    lane.keep();
    this.close();
  }

  /** Closes all that was not taken. */
  close(): void {
    this.#over = true;
    this.#head.abort();
    for (const lane of this.#candidates) lane.close();
    this.#candidates.clear();
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
