/**
 * Sends and receives multicast DNS packets (RFC 6762) on every interface that is up, over IPv4 and IPv6.
 *
 * The package multicast-dns serves one socket. Here each interface has its own, since each has different
 * addresses to announce, and may come and go.
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

/** The part of multicast-dns that is used here; the package has no types. */
interface Socket {
  on(event: "error" | "warning", listener: (error: Error) => void): void;
  on(event: "ready", listener: () => void): void;
  on(event: "packet", listener: (packet: DnsPacket, from: { address: string }) => void): void;
  query(packet: DnsPacket, sent: (error?: Error | null) => void): void;
  respond(packet: DnsPacket, sent: (error?: Error | null) => void): void;
  destroy(): void;
}

/** A socket on one interface. */
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
}

/** The multicast groups on all interfaces. Disposed of, it leaves them. */
export class Multicast implements Disposable {
  #options: MulticastOptions;
  #sockets = new Map<string, Joined>();
  #reported = new Map<string, string>();
  #timer: ReturnType<typeof setInterval>;

  constructor(options: MulticastOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#update(), LOOK_INTERVAL_MS);
    Deno.unrefTimer(this.#timer);
    this.#update();
    if (this.#sockets.size === 0) debug(() => "local network: no interface is up");
  }

  /** Sends a query on every interface. */
  query(packet: DnsPacket): void {
    for (const [key, { socket, ready }] of this.#sockets) {
      if (ready) socket.query(packet, (error) => this.#report(key, error));
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
  }

  /** Opens sockets for interfaces that are new or have other addresses, and closes those that are outdated. */
  #update(): void {
    const wanted = new Map<string, { networkInterface: Interface; ipv4: string | undefined }>();
    for (const networkInterface of interfaces()) {
      const key = `${networkInterface.name} (${networkInterface.addresses.join(", ")})`;
      const ipv4 = networkInterface.addresses.find((address) => address.includes("."));
      if (ipv4) wanted.set(`${key} IPv4`, { networkInterface, ipv4 });
      if (networkInterface.ipv6) {
        wanted.set(`${key} IPv6`, { networkInterface, ipv4: undefined });
      }
    }
    for (const [key, joined] of [...this.#sockets]) {
      if (!wanted.has(key)) this.#leave(key, joined);
    }
    for (const [key, { networkInterface, ipv4 }] of wanted) {
      if (!this.#sockets.has(key)) this.#join(key, networkInterface, ipv4);
    }
  }

  #join(key: string, networkInterface: Interface, ipv4: string | undefined): void {
    const version: IpVersion = ipv4 ? "IPv4" : "IPv6";
    try {
      const udp = udpSocket(version);
      const socket: Socket = makeMulticastDns(
        ipv4 ? { socket: udp, type: "udp4", interface: ipv4, bind: "0.0.0.0" } : {
          socket: udp,
          type: "udp6",
          interface: `::%${networkInterface.scope}`,
          ip: IPV6_GROUP,
          bind: "::",
        },
      );
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

/** Makes a socket that emits only packets that may be about iroh's service. */
function udpSocket(version: IpVersion): UdpSocket {
  const socket = createSocket({ type: version === "IPv4" ? "udp4" : "udp6", reuseAddr: true });
  const emit = socket.emit.bind(socket) as (event: string, ...args: unknown[]) => boolean;
  // Filtered here, since multicast-dns decodes every packet that the socket emits.
  socket.emit = (event: string, ...args: unknown[]) =>
    event === "message" && !mayBeOfIroh(args[0] as Buffer) ? false : emit(event, ...args);
  return socket;
}

function mayBeOfIroh(message: Buffer): boolean {
  return message.length <= MAX_PACKET_BYTES &&
    message.toString("latin1").toLowerCase().includes(SERVICE_LABEL);
}
