/**
 * Multicast DNS packets on every interface that is up, IPv4 and IPv6 (RFC 6762). The package
 * multicast-dns does the packets and one socket; here is one socket for each interface, so that
 * each can say something of its own, and interfaces may come and go.
 */

import type { Buffer } from "node:buffer";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import makeMulticastDns from "multicast-dns";
import { debug } from "../console/stderr.ts";
import { type Interface, interfaces } from "../platform/network_interfaces.ts";
import type { DnsPacket } from "./mdns_records.ts";

/** How often to look for interfaces that have come or gone. */
const LOOK_MS = 1_000;
const IPV6_GROUP = "ff02::fb";
/**
 * What fits into one Ethernet frame, as such packets should (RFC 6762, 17). To decode a longer one, made
 * of names that point to names, can take many milliseconds.
 */
const MOST_PACKET_BYTES = 1472;
/** In every packet of interest, since a name's first occurrence is never compressed (RFC 1035, 4.1.4). */
const SERVICE_LABEL = "_irohv1";

/** What of multicast-dns is used here; it brings no types. */
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

/** Each has a multicast group of its own. */
export type IpVersion = "IPv4" | "IPv6";

/** The version of an IP address. */
export function ipVersion(address: string): IpVersion {
  return address.includes(":") ? "IPv6" : "IPv4";
}

/** What becomes of packets, and of interfaces. */
export interface MulticastOptions {
  /** Called for each packet, the own ones included. What it throws ends the program. */
  readonly received: (packet: DnsPacket, from: string) => void;
  /** Called when an interface can be sent to, with its present addresses. */
  readonly joined: (networkInterface: Interface) => void;
}

/** Sends to, and hears from, whoever is on a link with this host. Dispose of it to stop. */
export class Multicast implements Disposable {
  #options: MulticastOptions;
  #sockets = new Map<string, Joined>();
  #told = new Map<string, string>();
  #timer: ReturnType<typeof setInterval>;

  constructor(options: MulticastOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#update(), LOOK_MS);
    Deno.unrefTimer(this.#timer);
    this.#update();
    if (this.#sockets.size === 0) debug(() => "local network: no interface is up");
  }

  /** Sends a query on every interface. */
  query(packet: DnsPacket): void {
    for (const [key, { socket, ready }] of this.#sockets) {
      if (ready) socket.query(packet, (error) => this.#tell(key, error));
    }
  }

  /**
   * Sends on every interface what there is to say on that one, if anything. Resolves when it has
   * left, or cannot leave.
   *
   * @param version By this version of IP alone.
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
        this.#tell(key, error);
        resolve();
      });
    }
    await Promise.all(sending);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const [key, joined] of [...this.#sockets]) this.#leave(key, joined);
  }

  /** Opens sockets for interfaces that have come or have other addresses, closes those of others. */
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
        this.#tell(key, error);
        this.#leave(key, joined); // and tries again at the next look
      });
      // What does not parse is somebody else's, and no more than a word in the debug log.
      socket.on("warning", (error) => this.#tell(key, error));
      socket.on("packet", (packet, from) => this.#options.received(packet, from.address));
      socket.on("ready", () => {
        if (this.#sockets.get(key) !== joined) return;
        joined.ready = true;
        this.#options.joined(networkInterface);
      });
    } catch (error) {
      this.#tell(key, error as Error); // and tries again at the next look
    }
  }

  /** Says in the debug log what is wrong with an interface, until it is something else. */
  #tell(key: string, error: Error | null | undefined): void {
    if (!error || this.#told.get(key) === error.message) return;
    this.#told.set(key, error.message);
    debug(() => `local network, ${key}: ${error.message}`);
  }

  #leave(key: string, joined: Joined): void {
    joined.socket.destroy();
    if (this.#sockets.get(key) === joined) this.#sockets.delete(key);
  }
}

/** A socket from which only packets come that may be about iroh's service. */
function udpSocket(version: IpVersion): UdpSocket {
  const socket = createSocket({ type: version === "IPv4" ? "udp4" : "udp6", reuseAddr: true });
  const emit = socket.emit.bind(socket) as (event: string, ...args: unknown[]) => boolean;
  // Here, since multicast-dns decodes whatever the socket emits.
  socket.emit = (event: string, ...args: unknown[]) =>
    event === "message" && !isOfInterest(args[0] as Buffer) ? false : emit(event, ...args);
  return socket;
}

function isOfInterest(message: Buffer): boolean {
  return message.length <= MOST_PACKET_BYTES &&
    message.toString("latin1").toLowerCase().includes(SERVICE_LABEL);
}
