/**
 * Sends and receives multicast DNS packets (RFC 6762) on every interface that is up, over IPv4 and IPv6.
 *
 * The package multicast-dns serves one socket. Here each interface has its own to send from, since each has
 * different addresses to announce, and may come and go. That socket is bound to an address of the interface, so
 * multicast packets do not reach it. They reach one socket for each version of IP. If each interface's socket
 * received them, as on Linux all do, a host with many interfaces would have the square of their number to read.
 *
 * Linux lets one socket join the group on 20 interfaces only. But a socket that is bound to no address receives the
 * packets of every group that some socket has joined. So it is enough that each interface's own socket joins.
 */

import type { Buffer } from "node:buffer";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import makeMulticastDns from "multicast-dns";
import { debug } from "../console/stderr.ts";
import { type Interface, interfaces } from "../platform/network_interfaces.ts";
import type { DnsPacket } from "./mdns_records.ts";

/** Interval between two looks for interfaces that have come or gone. */
const LOOK_INTERVAL_MS = 1_000;
/** The group of multicast DNS over IPv6 (RFC 6762, section 3). */
const IPV6_GROUP = "ff02::fb";
/**
 * Maximum length of a packet: it should fit into one Ethernet frame (RFC 6762, section 17). A longer one, full of
 * names that point to names, takes many milliseconds to decode.
 */
const MAX_PACKET_BYTES = 1472;
/**
 * The text by which a packet of iroh's service is recognised before it is decoded. The first occurrence of a name
 * is never compressed (RFC 1035, section 4.1.4).
 */
const SERVICE_LABEL = "_irohv1";
/** Bit of the third byte that tells a response from a query (RFC 1035, section 4.1.1). */
const RESPONSE_BIT = 0x80;
/** Time in which the same query again is a copy from another interface. A listener answers no sooner anyway. */
const COPIES_MS = 100;

/** The part of multicast-dns that is used here; the package has no types. */
interface Socket {
  on(event: "error" | "warning", listener: (error: Error) => void): void;
  on(event: "ready", listener: () => void): void;
  on(event: "packet", listener: (packet: DnsPacket, from: { address: string }) => void): void;
  query(packet: DnsPacket, sent: (error?: Error | null) => void): void;
  respond(packet: DnsPacket, sent: (error?: Error | null) => void): void;
  destroy(): void;
}

/** The socket that receives on all interfaces. */
interface Receiver {
  readonly socket: Socket;
  /** Names the interfaces on which it has joined the group. */
  readonly key: string;
}

/** A socket that sends on one interface. */
interface Joined {
  readonly socket: Socket;
  readonly networkInterface: Interface;
  readonly version: IpVersion;
  ready: boolean;
}

/** The version of IP. Each has its multicast group. */
export type IpVersion = "IPv4" | "IPv6";

/** Returns the version of an IP address. */
export function ipVersion(address: string): IpVersion {
  return address.includes(":") ? "IPv6" : "IPv4";
}

/** What {@linkcode Multicast} calls. */
export interface MulticastOptions {
  /** Called for each packet, also for those of this host. If it throws, the program ends. */
  readonly received: (packet: DnsPacket, from: string) => void;
  /** Called when packets can be sent on an interface, with its present addresses. */
  readonly joined: (networkInterface: Interface) => void;
  /** Responses with this text are not received: they are this endpoint's own. */
  readonly own?: string;
}

/** The multicast groups on all interfaces. Disposed of, it leaves them. */
export class Multicast implements Disposable {
  #options: MulticastOptions;
  #sockets = new Map<string, Joined>();
  #receivers = new Map<IpVersion, Receiver>();
  #reported = new Map<string, string>();
  #timer: ReturnType<typeof setInterval>;

  constructor(options: MulticastOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#update(), LOOK_INTERVAL_MS);
    Deno.unrefTimer(this.#timer);
    this.#update();
    if (this.#sockets.size === 0) debug(() => "local network: no interface is up");
  }

  /** Sends a query. @param on The only interface to use; by default all. */
  query(packet: DnsPacket, on?: Interface): void {
    for (const [key, { socket, networkInterface, ready }] of this.#sockets) {
      if (!ready || networkInterface !== (on ?? networkInterface)) continue;
      socket.query(packet, (error) => this.#report(key, error));
    }
  }

  /**
   * Sends a response on each interface. Resolves when each has been sent, or has failed.
   *
   * @param packetFor Makes the response for an interface, if there is one.
   * @param version The only version of IP to use; by default both.
   */
  async respond(
    packetFor: (networkInterface: Interface) => DnsPacket | undefined,
    version?: IpVersion,
  ): Promise<void> {
    const sending: Promise<void>[] = [];
    for (
      const [key, { socket, networkInterface, ready, version: joinedVersion }] of this.#sockets
    ) {
      const packet = ready && joinedVersion === (version ?? joinedVersion)
        ? packetFor(networkInterface)
        : undefined;
      if (!packet) continue;
      const { promise, resolve } = Promise.withResolvers<void>();
      sending.push(promise);
      socket.respond(packet, (error) => {
        this.#report(key, error);
        resolve();
      });
    }
    await Promise.all(sending);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const [key, joined] of [...this.#sockets]) this.#leave(key, joined);
    for (const { socket } of this.#receivers.values()) socket.destroy();
    this.#receivers.clear();
  }

  /** Opens sockets for interfaces that are new or have other addresses, and closes those that are outdated. */
  #update(): void {
    const wanted = new Map<string, { networkInterface: Interface; version: IpVersion }>();
    for (const networkInterface of interfaces()) {
      const key = `${networkInterface.name} (${networkInterface.addresses.join(", ")})`;
      if (ipv4Of(networkInterface)) {
        wanted.set(`${key} IPv4`, { networkInterface, version: "IPv4" });
      }
      const { ipv6 } = networkInterface;
      if (ipv6) wanted.set(`${key} IPv6 ${ipv6}`, { networkInterface, version: "IPv6" });
    }
    for (const version of ["IPv4", "IPv6"] as const) {
      const all = [...wanted.values()].filter((one) => one.version === version);
      this.#receive(version, all.map(({ networkInterface }) => networkInterface));
    }
    for (const [key, joined] of [...this.#sockets]) {
      if (!wanted.has(key)) this.#leave(key, joined);
    }
    for (const [key, { networkInterface, version }] of wanted) {
      if (!this.#sockets.has(key)) this.#join(key, networkInterface, version);
    }
  }

  /** Opens the socket that receives on these interfaces, in place of the one before. */
  #receive(version: IpVersion, interfaces: readonly Interface[]): void {
    const before = this.#receivers.get(version);
    const joins = interfaces.map((one) => multicastInterface(one, version));
    const key = joins.join(" ");
    if (before?.key === key || (!before && joins.length === 0)) return;
    this.#receivers.delete(version);
    before?.socket.destroy();
    if (joins.length === 0) return;
    try {
      const udp = udpSocket(version, this.#options.own);
      Object.assign(udp, { setMulticastInterface: undefined }); // it sends nothing
      const socket = multicastSocket(version, udp, joins, version === "IPv4" ? "0.0.0.0" : "::");
      this.#receivers.set(version, { socket, key });
      socket.on("error", (error) => {
        this.#report(version, error);
        socket.destroy();
        const isPresent = this.#receivers.get(version)?.socket === socket;
        if (isPresent) this.#receivers.delete(version); // the next look opens it again
      });
      // Sent for a packet that cannot be decoded, which any host on the network may send.
      socket.on("warning", (error) => this.#report(version, error));
      socket.on("packet", (packet, from) => this.#options.received(packet, from.address));
    } catch (error) {
      this.#report(version, error as Error); // the next look opens it again
    }
  }

  #join(key: string, networkInterface: Interface, version: IpVersion): void {
    try {
      const join = multicastInterface(networkInterface, version);
      const address = version === "IPv4" ? ipv4Of(networkInterface) : networkInterface.ipv6;
      const socket = multicastSocket(version, udpSocket(version), [join], address!);
      const joined: Joined = { socket, networkInterface, version, ready: false };
      this.#sockets.set(key, joined);
      socket.on("error", (error) => {
        this.#report(key, error);
        this.#leave(key, joined); // the next look joins again
      });
      // Sent for a packet that cannot be decoded, which any host on the network may send.
      socket.on("warning", (error) => this.#report(key, error));
      socket.on("packet", (packet, from) => this.#options.received(packet, from.address));
      socket.on("ready", () => {
        if (this.#sockets.get(key) !== joined) return;
        joined.ready = true;
        this.#options.joined(networkInterface);
      });
    } catch (error) {
      this.#report(key, error as Error); // the next look joins again
    }
  }

  /** Writes an interface's error to the debug log, unless it is the one written last. */
  #report(key: string, error: Error | null | undefined): void {
    if (!error || this.#reported.get(key) === error.message) return;
    this.#reported.set(key, error.message);
    debug(() => `local network, ${key}: ${error.message}`);
  }

  #leave(key: string, joined: Joined): void {
    joined.socket.destroy();
    if (this.#sockets.get(key) === joined) this.#sockets.delete(key);
  }
}

function ipv4Of({ addresses }: Interface): string | undefined {
  return addresses.find((address) => !address.includes(":"));
}

/** Returns what names an interface for the options of a socket: its IPv4 address, or its scope. */
function multicastInterface(networkInterface: Interface, version: IpVersion): string {
  return version === "IPv4" ? ipv4Of(networkInterface)! : `::%${networkInterface.scope}`;
}

/** Makes a socket join the group on the given interfaces, and binds it to an address. */
function multicastSocket(
  version: IpVersion,
  socket: UdpSocket,
  joins: readonly string[],
  bind: string,
): Socket {
  const options = { socket, bind, interface: joins.length === 1 ? joins[0] : joins };
  return version === "IPv4"
    ? makeMulticastDns({ ...options, type: "udp4" })
    : makeMulticastDns({ ...options, type: "udp6", ip: IPV6_GROUP });
}

/**
 * Makes a socket that emits only packets that may be about iroh's service, and of a query that comes from many
 * interfaces of a host at once only the first copy.
 *
 * @param own Text in this endpoint's own announcements, of which each interface gives a copy back.
 */
function udpSocket(version: IpVersion, own?: string): UdpSocket {
  const socket = createSocket({ type: version === "IPv4" ? "udp4" : "udp6", reuseAddr: true });
  const emit = socket.emit.bind(socket) as (event: string, ...args: unknown[]) => boolean;
  let query: Buffer | undefined, queriedAt = -Infinity;
  const isWanted = (message: Buffer) => {
    const now = performance.now();
    if (now - queriedAt < COPIES_MS && query?.equals(message)) return false;
    if (message.length > MAX_PACKET_BYTES) return false;
    const text = message.toString("latin1").toLowerCase();
    if (!text.includes(SERVICE_LABEL)) return false;
    if ((message[2]! & RESPONSE_BIT) !== 0) return own === undefined || !text.includes(own);
    [query, queriedAt] = [message, now];
    return true;
  };
  // Filtered here, since multicast-dns decodes every packet that the socket emits.
  socket.emit = (event: string, ...args: unknown[]) =>
    event === "message" && !isWanted(args[0] as Buffer) ? false : emit(event, ...args);
  return socket;
}
