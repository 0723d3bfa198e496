/**
 * Finds repositories on the local network by multicast DNS (RFC 6762), as iroh programs do.
 *
 * A listener runs the responder. It announces its addresses when it starts, when the network changes, and in
 * answer to queries. A dialer runs the browser, which sends queries.
 */

import { isIPv6 } from "../platform/ip_address.ts";
import { abortable } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { type Interface, isLinkLocalIpv6, onLocalNetwork } from "../platform/network_interfaces.ts";
import { isAnyHost, socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { UnverifiedHints } from "./mdns_hints.ts";
import {
  addressesOf,
  announcement,
  type DnsPacket,
  goodbye,
  isQuery,
  isQueryFor,
  keyLabel,
  keyOfInstance,
  othersAnnounced,
  queryFor,
} from "./mdns_records.ts";
import { type IpVersion, ipVersion, Multicast, type MulticastOptions } from "./mdns_sockets.ts";
import { ResponseSuppression, SUFFICIENT_ANSWERS } from "./mdns_suppression.ts";

/**
 * Interval between two announcements. RFC 6762, section 6, has 1 s, but each query is from a dialer that waits.
 */
const ANNOUNCE_INTERVAL_MS = 100;
/** Time between an announcement of a change and its repetition (RFC 6762, section 8.3). */
const REPEAT_AFTER_MS = 1_000;
/** Timeout for sending the goodbye: a courtesy. */
const GOODBYE_TIMEOUT_MS = 500;
/** Maximum number of addresses in an announcement. With about 100 bytes each they fit into an Ethernet frame. */
const MAX_ANNOUNCED_ADDRESSES = 12;
/**
 * When the browser asks: on every interface at once, at these times after its start, then at an interval. RFC
 * 6762, section 5.2, has longer intervals, but iroh programs ask about as often, and a dial is soon over.
 */
const QUERY_TIMES_MS = [100, 300, 700], QUERY_INTERVAL_MS = 500;

type Timer = ReturnType<typeof setTimeout>;

/** The part of {@linkcode Multicast} that is used here. */
export type MulticastGroup = Pick<Multicast, "query" | "respond"> & Disposable;

/** What is called, and what tests replace: the multicast group, the local network, and time limits. */
export interface MdnsOptions {
  readonly join?: (options: MulticastOptions) => MulticastGroup;
  readonly localNetwork?: typeof onLocalNetwork;
  /** Called with the public key, in hex, of each endpoint that is announced. Anyone can make that up. */
  readonly heard?: (key: string) => void;
  readonly announceIntervalMs?: number;
  readonly repeatAfterMs?: number;
  readonly goodbyeTimeoutMs?: number;
  readonly queryTimesMs?: readonly number[];
  readonly queryIntervalMs?: number;
}

const joinMulticast = (options: MulticastOptions) => new Multicast(options);

/** Announces a listener's addresses. Disposed of, it says goodbye and stops. */
export class MdnsResponder implements AsyncDisposable {
  readonly #publicKey: Uint8Array;
  readonly #boundSockets: readonly string[];
  readonly #options: MdnsOptions;
  readonly #multicast: MulticastGroup;
  readonly #suppression = new ResponseSuppression();
  #announcedAt = -Infinity;
  #nextAnnouncement: Timer | undefined;
  #repetitions = new Set<Timer>();
  /** By IP version, the query for all endpoints that waits for an answer. */
  #pendingQueries = new Map<IpVersion, { timer: Timer; answers: number }>();

  /** @param boundSockets Sockets that the endpoint is bound to, as `0.0.0.0:5` or `[::]:5`. */
  constructor(
    publicKey: Uint8Array,
    boundSockets: readonly string[],
    options: MdnsOptions = {},
  ) {
    this.#publicKey = publicKey;
    this.#boundSockets = boundSockets;
    this.#options = options;
    const { join = joinMulticast, repeatAfterMs = REPEAT_AFTER_MS } = options;
    this.#multicast = join({
      own: keyLabel(publicKey),
      received: (packet, from) => this.#receive(packet, ipVersion(from)),
      joined: () => {
        this.#announceSoon();
        const timer = setTimeout(() => {
          this.#repetitions.delete(timer);
          this.#announceSoon();
        }, repeatAfterMs);
        this.#repetitions.add(timer);
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#nextAnnouncement);
    for (const timer of this.#repetitions) clearTimeout(timer);
    for (const { timer } of this.#pendingQueries.values()) clearTimeout(timer);
    const { goodbyeTimeoutMs = GOODBYE_TIMEOUT_MS } = this.#options;
    const sent = this.#multicast.respond(() => goodbye(this.#publicKey));
    await abortable(sent, AbortSignal.timeout(goodbyeTimeoutMs)).catch((error) => {
      debug(() => `local network: no goodbye: ${error}`); // peers notice without it
    });
    this.#multicast[Symbol.dispose]();
  }

  #receive(packet: DnsPacket, version: IpVersion): void {
    if (isQueryFor(this.#publicKey, packet)) return this.#announceSoon();
    if (isQuery(packet)) return this.#answerLater(version);
    const others = othersAnnounced(this.#publicKey, packet), now = performance.now();
    for (const other of others) {
      this.#suppression.heard(other, now);
      const key = this.#options.heard && keyOfInstance(other);
      if (key !== undefined) this.#options.heard?.(key);
    }
    const query = this.#pendingQueries.get(version);
    if (!query || (query.answers += others.length) < SUFFICIENT_ANSWERS) return;
    clearTimeout(query.timer);
    this.#pendingQueries.delete(version);
    this.#suppression.suppressed();
  }

  #answerLater(version: IpVersion): void {
    if (this.#pendingQueries.has(version)) return;
    const timer = setTimeout(() => {
      this.#pendingQueries.delete(version);
      this.#suppression.answered(performance.now());
      this.#announce(version); // other responders would count two answers if it went to both versions
    }, this.#suppression.delay(performance.now()));
    this.#pendingQueries.set(version, { timer, answers: 0 });
  }

  /** Announces at once, or as soon as the interval since the last announcement is over. */
  #announceSoon(): void {
    const { announceIntervalMs = ANNOUNCE_INTERVAL_MS } = this.#options;
    const wait = Math.max(this.#announcedAt + announceIntervalMs - performance.now(), 0);
    this.#nextAnnouncement ??= setTimeout(() => {
      this.#nextAnnouncement = undefined;
      this.#announcedAt = performance.now();
      this.#announce();
    }, wait);
  }

  /** Announces on each interface the addresses of that interface. */
  #announce(version?: IpVersion): void {
    const sent = this.#multicast.respond((networkInterface) => {
      const addresses = addressesOn(networkInterface, this.#boundSockets)
        .slice(0, MAX_ANNOUNCED_ADDRESSES);
      return addresses.length > 0 ? announcement(this.#publicKey, addresses) : undefined;
    }, version);
    sent.catch((error) => debug(() => `local network: not announced: ${error}`));
  }
}

/** Returns the socket addresses at which hosts on an interface's link can reach an endpoint. */
function addressesOn(networkInterface: Interface, boundSockets: readonly string[]): string[] {
  return boundSockets.flatMap((socket) => {
    const { host, port } = splitSocketAddress(socket);
    const isAny = isAnyHost(host);
    return networkInterface.addresses
      .filter((address) => isAny ? isIPv6(address) === isIPv6(host) : address === host)
      .map((address) => socketAddress(address, port));
  });
}

/** Searches the local network for one endpoint, until it is disposed of. */
export class MdnsBrowser implements Disposable {
  readonly #publicKey: Uint8Array;
  readonly #hints = new UnverifiedHints();
  readonly #multicast: MulticastGroup;
  readonly #timers: readonly Timer[];
  /** Tells whether an address is on the local network. Kept, since thousands of packets may need it. */
  #isLocal: ((address: string) => boolean) | undefined;
  readonly #localNetwork: typeof onLocalNetwork;
  #onFound: (() => void) | undefined;

  constructor(
    publicKey: Uint8Array,
    {
      join = joinMulticast,
      localNetwork = onLocalNetwork,
      queryTimesMs = QUERY_TIMES_MS,
      queryIntervalMs = QUERY_INTERVAL_MS,
    }: MdnsOptions = {},
  ) {
    this.#publicKey = publicKey;
    this.#localNetwork = localNetwork;
    const ask = (on?: Interface) => this.#multicast.query(queryFor(publicKey), on);
    this.#multicast = join({
      received: (packet, from) => this.#receive(packet, from),
      joined: (networkInterface) => {
        this.#isLocal = undefined; // it has changed
        ask(networkInterface);
      },
    });
    this.#timers = [
      ...queryTimesMs.map((time) => setTimeout(() => ask(), time)),
      setInterval(() => ask(), queryIntervalMs),
    ];
  }

  /** Sets what is called when there may be an address to try: now, and each time that one is found. */
  onFound(listener: () => void): void {
    this.#onFound = listener;
    listener();
  }

  /** Returns a random address that has not been tried, and marks it as tried. */
  next(): string | undefined {
    return this.#hints.next();
  }

  /** Number of addresses that have not been tried. */
  get waiting(): number {
    return this.#hints.waiting;
  }

  /** Marks addresses as not tried, by default all. */
  resetTried(addresses?: Iterable<string>): void {
    this.#hints.resetTried(addresses);
  }

  [Symbol.dispose](): void {
    this.#onFound = undefined;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#multicast[Symbol.dispose]();
  }

  #receive(packet: DnsPacket, from: string): void {
    const addresses = addressesOf(this.#publicKey, packet);
    if (addresses.length === 0) return;
    const isLocal = this.#isLocal ??= this.#localNetwork();
    // A packet from beyond the link is ignored (RFC 6762, section 11). An address beyond it is not tried: a
    // host on the link must not make this one send elsewhere.
    if (!isLocal(from)) return;
    const local = addresses.filter((address) => {
      const { host } = splitSocketAddress(address);
      return !isLinkLocalIpv6(host) && isLocal(host);
    });
    const fresh = this.#hints.add(from, local);
    if (fresh.length === 0) return;
    debug(() => `local network: ${from} says it is at ${fresh.join(", ")}`);
    this.#onFound?.();
  }
}
