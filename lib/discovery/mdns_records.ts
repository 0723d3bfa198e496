/**
 * Encodes and decodes what iroh programs announce on a local network: the addresses of an endpoint, as DNS
 * records.
 *
 * The format is DNS-based service discovery (RFC 6763) over multicast DNS (RFC 6762), as in the crates
 * iroh-mdns-address-lookup 0.6 and swarm-discovery 0.6. These add rules:
 *
 * - The service is `_irohv1._udp.local`.
 * - The instance is the public key in lower-case base32 without padding.
 * - The answers of a response are a PTR record to the instance, and for each port an SRV record of the
 *   instance. The target of the SRV record is `KEY-PORT.local`.
 * - The additional records are the A and AAAA records of the targets (RFC 6763, section 12).
 * - A packet with a question for the service is that question, and its answers are ignored.
 * - Records with the cache-flush bit (RFC 6762, section 10.2) and questions with the unicast-response bit
 *   (section 5.4) are skipped.
 * - The TTL is ignored. Older versions always send 0.
 *
 * iroh programs may add a TXT record with `relay=URL`. This program neither sends nor follows it: the network
 * that a host happens to be on must not choose its relay.
 */

import { base32nopad } from "@scure/base";
import { splitSocketAddress } from "../platform/socket_address.ts";
import { PUBLIC_KEY_BYTES } from "../repository/ticket.ts";

/** A question in a packet, as the package dns-packet names its parts. */
export interface DnsQuestion {
  readonly name: string;
  readonly type: string;
  readonly class?: string;
}

/** A record in a packet, as the package dns-packet names its parts. */
export interface DnsRecord {
  readonly name: string;
  readonly type: string;
  readonly class?: string;
  readonly ttl?: number;
  /** By type: a name, an address, `{ port, target, … }`, bytes. */
  readonly data: unknown;
}

/** A packet, as the package dns-packet names its parts. */
export interface DnsPacket {
  readonly questions?: readonly DnsQuestion[];
  readonly answers?: readonly DnsRecord[];
  readonly additionals?: readonly DnsRecord[];
}

const SERVICE = "_irohv1._udp.local";
/** Time to live of a record in seconds, as RFC 6762 recommends in section 10. */
const TTL = 120;
const CLASS = "IN";
/** Maximum number of addresses taken from one packet. A host has a few, on each of two ports. */
const MAX_ADDRESSES = 16;

/**
 * Makes a query for one endpoint. It also asks for all endpoints, since iroh programs answer only that
 * question; they ignore the other.
 */
export function queryFor(publicKey: Uint8Array): DnsPacket {
  return {
    questions: [
      { name: `${keyLabel(publicKey)}.${SERVICE}`, type: "SRV", class: CLASS },
      { name: SERVICE, type: "PTR", class: CLASS },
    ],
  };
}

/** Tells whether a packet asks for this endpoint. */
export function isQueryFor(publicKey: Uint8Array, packet: DnsPacket): boolean {
  return asks(packet, "SRV", `${keyLabel(publicKey)}.${SERVICE}`);
}

/** Tells whether a packet asks for all endpoints. */
export function isQuery(packet: DnsPacket): boolean {
  return asks(packet, "PTR", SERVICE);
}

function asks(packet: DnsPacket, wantedType: string, wantedName: string): boolean {
  return (packet.questions ?? []).some(({ name, type, class: class_ }) =>
    type === wantedType && sameName(name, wantedName) && (class_ ?? CLASS) === CLASS
  );
}

/** Returns the instance names of the other endpoints that a packet announces. */
export function othersAnnounced(publicKey: Uint8Array, packet: DnsPacket): string[] {
  if (isQuery(packet)) return [];
  const instance = `${keyLabel(publicKey)}.${SERVICE}`;
  const names = (packet.answers ?? []).filter(({ type }) => type === "SRV")
    .map(({ name }) => bareName(name))
    .filter((name) => name.endsWith(`.${SERVICE}`) && name !== instance);
  return [...new Set(names)];
}

/** Returns the public key, in hex, of an instance name; undefined if it has none. */
export function keyOfInstance(name: string): string | undefined {
  try {
    const key = base32nopad.decode(name.split(".", 1)[0]!.toUpperCase());
    return key.length === PUBLIC_KEY_BYTES ? key.toHex() : undefined;
  } catch {
    return undefined; // another program's name
  }
}

/**
 * Makes the announcement of an endpoint's addresses.
 *
 * @param addresses Socket addresses, as `1.2.3.4:5` or `[fd00::1]:5`.
 */
export function announcement(publicKey: Uint8Array, addresses: readonly string[]): DnsPacket {
  const key = keyLabel(publicKey), instance = `${key}.${SERVICE}`;
  const ports = new Map<number, string[]>();
  for (const address of addresses) {
    const { host, port } = splitSocketAddress(address);
    ports.set(port, [...ports.get(port) ?? [], host]);
  }
  const target = (port: number) => `${key}-${port}.local`;
  return {
    answers: [
      record(SERVICE, "PTR", instance),
      ...[...ports.keys()].map((port) =>
        record(instance, "SRV", { priority: 0, weight: 0, port, target: target(port) })
      ),
    ],
    additionals: [...ports].flatMap(([port, hosts]) =>
      hosts.map((host) => record(target(port), host.includes(":") ? "AAAA" : "A", host))
    ),
  };
}

/**
 * Makes a goodbye, with a TTL of 0 (RFC 6762, section 10.1). It has only the PTR record: iroh programs ignore
 * the TTL, and would take an SRV record for an announcement.
 */
export function goodbye(publicKey: Uint8Array): DnsPacket {
  return { answers: [{ ...record(SERVICE, "PTR", `${keyLabel(publicKey)}.${SERVICE}`), ttl: 0 }] };
}

/**
 * Returns the socket addresses that a packet announces for the endpoint with this key. Each is a hint, which
 * any host on the network can send; only a handshake proves it.
 */
export function addressesOf(publicKey: Uint8Array, packet: DnsPacket): string[] {
  if (isQuery(packet)) return [];
  const instance = `${keyLabel(publicKey)}.${SERVICE}`;
  const ports = new Map<string, number>();
  for (const { name, type, data, class: class_ } of packet.answers ?? []) {
    if (type !== "SRV" || !sameName(name, instance) || (class_ ?? CLASS) !== CLASS) continue;
    const { target, port } = data as { target?: unknown; port?: unknown };
    if (typeof target === "string" && isPort(port)) ports.set(bareName(target), port);
  }
  const found = new Set<string>();
  for (const { name, type, data, class: class_ } of packet.additionals ?? []) {
    const port = ports.get(bareName(name));
    if (port === undefined || (class_ ?? CLASS) !== CLASS || typeof data !== "string") continue;
    if (type === "A") found.add(`${data}:${port}`);
    else if (type === "AAAA") found.add(`[${data}]:${port}`);
    if (found.size === MAX_ADDRESSES) break;
  }
  return [...found];
}

function record(name: string, type: string, data: unknown): DnsRecord {
  return { name, type, class: CLASS, ttl: TTL, data };
}

/** Returns the label that stands for a public key. */
export function keyLabel(publicKey: Uint8Array): string {
  if (publicKey.length !== PUBLIC_KEY_BYTES) throw new RangeError("not a public key");
  return base32nopad.encode(publicKey).toLowerCase();
}

/** Brings a name into one form. Case does not matter (RFC 6762, section 16), nor does the dot of the root. */
function bareName(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

function sameName(a: string, b: string): boolean {
  return bareName(a) === bareName(b);
}

function isPort(value: unknown): value is number {
  return typeof value === "number" && value > 0 && value <= 0xffff;
}
