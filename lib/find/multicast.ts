/**
 * Multicast DNS packets on every interface that is up, IPv4 and IPv6 (RFC 6762). The package
 * multicast-dns does the packets and one socket; here is one socket for each interface, so that
 * each can say something of its own, and interfaces may come and go.
 */

import makeMulticastDns from "multicast-dns";
import { debug } from "../stderr.ts";
import { type Interface, interfaces } from "./interfaces.ts";
import type { DnsPacket } from "./mdns_records.ts";

/** How often to look for interfaces that have come or gone. */
const LOOK_MS = 1_000;
const IPV6_GROUP = "ff02::fb";

/** What of multicast-dns is used here; it brings no types. */
interface Socket {
  on(event: "error" | "warning", listener: (error: Error) => void): void;
  on(event: "ready", listener: () => void): void;
  on(event: "packet", listener: (packet: DnsPacket, from: { address: string }) => void): void;
  query(packet: DnsPacket, sent: (error?: Error | null) => void): void;
  respond(packet: DnsPacket, sent: (error?: Error | null) => void): void;
  destroy(): void;
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
  readonly joined: (link: Interface) => void;
}

/** Sends to, and hears from, whoever is on a link with this host. Dispose of it to stop. */
export class Multicast implements Disposable {
  #options: MulticastOptions;
  #sockets = new Map<
    string,
    { socket: Socket; link: Interface; version: IpVersion; ready: boolean }
  >();
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
    packetFor: (link: Interface) => DnsPacket | undefined,
    version?: IpVersion,
  ): Promise<void> {
    const sending: Promise<void>[] = [];
    for (const [key, { socket, link, ready, version: own }] of this.#sockets) {
      const packet = ready && own === (version ?? own) ? packetFor(link) : undefined;
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
    for (const key of [...this.#sockets.keys()]) this.#leave(key);
  }

  /** Opens sockets for interfaces that have come or have other addresses, closes those of others. */
  #update(): void {
    const wanted = new Map<string, { link: Interface; ipv4: string | undefined }>();
    for (const link of interfaces()) {
      const key = `${link.name} (${link.addresses.join(", ")})`;
      const ipv4 = link.addresses.find((address) => address.includes("."));
      if (ipv4) wanted.set(`${key} IPv4`, { link, ipv4 });
      if (link.ipv6) wanted.set(`${key} IPv6`, { link, ipv4: undefined });
    }
    for (const key of [...this.#sockets.keys()]) if (!wanted.has(key)) this.#leave(key);
    for (const [key, { link, ipv4 }] of wanted) {
      if (!this.#sockets.has(key)) this.#join(key, link, ipv4);
    }
  }

  #join(key: string, link: Interface, ipv4: string | undefined): void {
    const failed = (error: Error) => {
      this.#tell(key, error);
      this.#leave(key); // and tries again at the next look
    };
    try {
      const socket: Socket = makeMulticastDns(
        ipv4
          ? { type: "udp4", interface: ipv4, bind: "0.0.0.0" }
          : { type: "udp6", interface: `::%${link.scope}`, ip: IPV6_GROUP, bind: "::" },
      );
      const version: IpVersion = ipv4 ? "IPv4" : "IPv6";
      const entry = { socket, link, version, ready: false };
      this.#sockets.set(key, entry);
      socket.on("error", failed);
      // What does not parse is somebody else's, and no more than a word in the debug log.
      socket.on("warning", (error) => this.#tell(key, error));
      socket.on("packet", (packet, from) => this.#options.received(packet, from.address));
      socket.on("ready", () => {
        if (this.#sockets.get(key) !== entry) return;
        entry.ready = true;
        this.#options.joined(link);
      });
    } catch (error) {
      failed(error as Error);
    }
  }

  /** Says in the debug log what is wrong with an interface, until it is something else. */
  #tell(key: string, error: Error | null | undefined): void {
    if (!error || this.#told.get(key) === error.message) return;
    this.#told.set(key, error.message);
    debug(() => `local network, ${key}: ${error.message}`);
  }

  #leave(key: string): void {
    this.#sockets.get(key)?.socket.destroy();
    this.#sockets.delete(key);
  }
}
