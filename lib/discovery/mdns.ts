/**
 * Finding repositories on the local network, with multicast DNS, as iroh programs do it: a listener
 * says where it is when it starts, when the network changes, and whenever it is asked; a dial asks.
 */

import { isIPv6 } from "node:net";
import { abortable } from "../async/abort.ts";
import { isAnyHost, socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { debug } from "../console/stderr.ts";
import { UnverifiedHints } from "./mdns_hints.ts";
import { type Interface, isLinkLocalIpv6, onLocalNetwork } from "../platform/network_interfaces.ts";
import {
  addressesOf,
  announcement,
  type DnsPacket,
  goodbye,
  isQuery,
  isQueryFor,
  othersAnnounced,
  queryFor,
} from "./mdns_records.ts";
import { type IpVersion, ipVersion, Multicast } from "./mdns_sockets.ts";
import { ANSWERS_ENOUGH, ResponseSuppression } from "./mdns_suppression.ts";

type Timer = ReturnType<typeof setTimeout>;

/** At least this long between two answers, however many ask: they are for all. */
const ANSWER_INTERVAL_MS = 100;
/** Lost packets are not sent again by anyone, so what has changed is said twice (RFC 6762, 8.3). */
const REPEAT_MS = 1_000;
const GOODBYE_LIMIT_MS = 500;
/** So that a packet fits into an Ethernet frame, with about 100 bytes for each. */
const MOST_ADDRESSES_ANNOUNCED = 12;
/** When a dial asks, after its start; later every {@linkcode ASK_AGAIN_MS}. */
const ASK_AT_MS = [100, 300, 700];
const ASK_AGAIN_MS = 500;

/** Says where a listener is, while it runs. Dispose of it when the listener stops. */
export class MdnsResponder implements AsyncDisposable {
  #publicKey: Uint8Array;
  #bound: readonly string[];
  #multicast: Multicast;
  #announced = -Infinity;
  #due: Timer | undefined;
  #repeating = new Set<Timer>();
  /** The question to everybody that is waiting for an answer, by IP version. */
  #asked = new Map<IpVersion, { timer: Timer; answers: number }>();
  #suppression = new ResponseSuppression();

  /** @param boundSockets What the endpoint is bound to, as `0.0.0.0:5` or `[::]:5`. */
  constructor(publicKey: Uint8Array, boundSockets: readonly string[]) {
    this.#publicKey = publicKey;
    this.#bound = boundSockets;
    this.#multicast = new Multicast({
      received: (packet, from) => this.#receive(packet, ipVersion(from)),
      joined: () => {
        this.#announceSoon();
        const timer = setTimeout(() => {
          this.#repeating.delete(timer);
          this.#announceSoon();
        }, REPEAT_MS);
        this.#repeating.add(timer);
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#due);
    for (const timer of this.#repeating) clearTimeout(timer);
    for (const { timer } of this.#asked.values()) clearTimeout(timer);
    const told = this.#multicast.respond(() => goodbye(this.#publicKey));
    await abortable(told, AbortSignal.timeout(GOODBYE_LIMIT_MS)).catch((error) => {
      debug(() => `local network: no goodbye: ${error}`); // a courtesy, not worth waiting for
    });
    this.#multicast[Symbol.dispose]();
  }

  #receive(packet: DnsPacket, version: IpVersion): void {
    if (isQueryFor(this.#publicKey, packet)) return this.#announceSoon();
    if (isQuery(packet)) return this.#answerLater(version);
    const others = othersAnnounced(this.#publicKey, packet), now = performance.now();
    for (const other of others) this.#suppression.heard(other, now);
    const asked = this.#asked.get(version);
    if (!asked || (asked.answers += others.length) < ANSWERS_ENOUGH) return;
    clearTimeout(asked.timer);
    this.#asked.delete(version);
    this.#suppression.suppressed();
  }

  #answerLater(version: IpVersion): void {
    if (this.#asked.has(version)) return;
    const timer = setTimeout(() => {
      this.#asked.delete(version);
      this.#suppression.answered(performance.now());
      // In the version of the question alone, so that it counts as one answer.
      this.#announce(version);
    }, this.#suppression.delay(performance.now()));
    this.#asked.set(version, { timer, answers: 0 });
  }

  /** Announces now, or as soon as that is due again. */
  #announceSoon(): void {
    const wait = Math.max(this.#announced + ANSWER_INTERVAL_MS - performance.now(), 0);
    this.#due ??= setTimeout(() => {
      this.#due = undefined;
      this.#announced = performance.now();
      this.#announce();
    }, wait);
  }

  #announce(version?: IpVersion): void {
    const sent = this.#multicast.respond((networkInterface) => {
      const addresses = addressesOn(networkInterface, this.#bound).slice(
        0,
        MOST_ADDRESSES_ANNOUNCED,
      );
      return addresses.length > 0 ? announcement(this.#publicKey, addresses) : undefined;
    }, version);
    sent.catch((error) => debug(() => `local network: not announced: ${error}`));
  }
}

/** Where an endpoint can be reached by those on a link. */
function addressesOn(networkInterface: Interface, bound: readonly string[]): string[] {
  return bound.flatMap((socket) => {
    const { host, port } = splitSocketAddress(socket);
    const any = isAnyHost(host);
    return networkInterface.addresses
      .filter((address) => any ? isIPv6(address) === isIPv6(host) : address === host)
      .map((address) => socketAddress(address, port));
  });
}

/** Looks for an endpoint on the local network. Dispose of it to stop. */
export class MdnsBrowser implements Disposable {
  #publicKey: Uint8Array;
  #hints = new UnverifiedHints();
  /** Not asked for each packet, of which there may be thousands. */
  #isLocal = onLocalNetwork();
  #multicast: Multicast;
  #timers: Timer[];
  #listener: (() => void) | undefined;

  constructor(publicKey: Uint8Array) {
    this.#publicKey = publicKey;
    const ask = () => this.#multicast.query(queryFor(publicKey));
    this.#multicast = new Multicast({
      received: (packet, from) => this.#receive(packet, from),
      joined: () => {
        this.#isLocal = onLocalNetwork();
        ask();
      },
    });
    this.#timers = [
      ...ASK_AT_MS.map((time) => setTimeout(ask, time)),
      setInterval(ask, ASK_AGAIN_MS),
    ];
  }

  /** Calls `listener` when there is something to take, now or later. */
  whenFound(listener: () => void): void {
    this.#listener = listener;
    listener();
  }

  /** An address to try that has not been taken; not the one that was said first, but any. */
  next(): string | undefined {
    return this.#hints.next();
  }

  /** Whether there is something to take. */
  get hasNext(): boolean {
    return this.#hints.hasNext;
  }

  /** From now on, nothing has been taken. */
  startAnew(): void {
    this.#hints.startAnew();
  }

  [Symbol.dispose](): void {
    this.#listener = undefined;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#multicast[Symbol.dispose]();
  }

  #receive(packet: DnsPacket, from: string): void {
    const addresses = addressesOf(this.#publicKey, packet);
    if (addresses.length === 0) return;
    const isLocal = this.#isLocal;
    // Nothing is taken from off the link, nor sent there because of what somebody says on it.
    if (!isLocal(from)) return;
    const local = addresses.map((address) => ({ address, host: splitSocketAddress(address).host }))
      .filter(({ host }) => !isLinkLocalIpv6(host) && isLocal(host))
      .map(({ address }) => address);
    const fresh = this.#hints.add(from, local);
    if (fresh.length === 0) return;
    debug(() => `local network: ${from} says it is at ${fresh.join(", ")}`);
    this.#listener?.();
  }
}
