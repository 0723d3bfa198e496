/**
 * What iroh programs say of themselves on a local network, as DNS records: "the endpoint with this
 * key is at these addresses".
 *
 * The form is that of the crate iroh-mdns-address-lookup 0.6 (on top of swarm-discovery 0.6), which
 * is DNS-based service discovery (RFC 6763) over multicast DNS (RFC 6762), with these rules of its own:
 *
 * - Service `_irohv1._udp.local`; the instance is the public key in lower-case base32 without padding.
 * - Answers: a PTR to the instance; for each port an SRV of the instance whose target is
 *   `KEY-PORT.local`; perhaps a TXT of the instance, with `relay=URL`, which is neither sent nor
 *   followed here: a network that one happens to be on has no say in that. Additionals: A and AAAA of
 *   the targets.
 * - A packet that holds a question for the service counts as nothing but that question.
 * - Neither the cache-flush nor the unicast-response bit is set: such records are skipped.
 * - The TTL means nothing to it, and older versions always send 0.
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
/** Seconds; the customary value. Announcements come again long before. */
const TTL = 120;
const CLASS = "IN";
/** Addresses taken of one endpoint in one packet; a packet holds fewer than fifty. */
const MOST_ADDRESSES = 16;

/**
 * Asks for one endpoint, and, since iroh programs answer no other question, who is there. They take the
 * first question for nothing.
 */
export function queryFor(publicKey: Uint8Array): DnsPacket {
  return {
    questions: [
      { name: `${keyLabel(publicKey)}.${SERVICE}`, type: "SRV", class: CLASS },
      { name: SERVICE, type: "PTR", class: CLASS },
    ],
  };
}

/** Whether a packet asks for one endpoint. */
export function isQueryFor(publicKey: Uint8Array, packet: DnsPacket): boolean {
  return asks(packet, "SRV", `${keyLabel(publicKey)}.${SERVICE}`);
}

/** Whether a packet asks who is there. */
export function isQuery(packet: DnsPacket): boolean {
  return asks(packet, "PTR", SERVICE);
}

function asks(packet: DnsPacket, wanted: string, owner: string): boolean {
  return (packet.questions ?? []).some(({ name, type, class: class_ }) =>
    type === wanted && sameName(name, owner) && (class_ ?? CLASS) === CLASS
  );
}

/** Of which other endpoints a packet says where they are: their names. */
export function othersAnnounced(publicKey: Uint8Array, packet: DnsPacket): string[] {
  if (isQuery(packet)) return [];
  const instance = `${keyLabel(publicKey)}.${SERVICE}`;
  const names = (packet.answers ?? []).filter(({ type }) => type === "SRV")
    .map(({ name }) => bareName(name))
    .filter((name) => name.endsWith(`.${SERVICE}`) && name !== instance);
  return [...new Set(names)];
}

/**
 * Says where an endpoint is.
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
 * Says that an endpoint is gone (RFC 6762, section 10.1). Of the PTR alone: to iroh programs, which do
 * not look at the TTL, any more would say that it is there.
 */
export function goodbye(publicKey: Uint8Array): DnsPacket {
  return { answers: [{ ...record(SERVICE, "PTR", `${keyLabel(publicKey)}.${SERVICE}`), ttl: 0 }] };
}

/**
 * Where a packet says that the endpoint with this key is: socket addresses; none if it says nothing of
 * it. Whoever is on the network can say anything, so each is a hint, to be proved by a handshake.
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
    if (found.size === MOST_ADDRESSES) break;
  }
  return [...found];
}

function record(name: string, type: string, data: unknown): DnsRecord {
  return { name, type, class: CLASS, ttl: TTL, data };
}

function keyLabel(publicKey: Uint8Array): string {
  if (publicKey.length !== PUBLIC_KEY_BYTES) throw new RangeError("not a public key");
  return base32nopad.encode(publicKey).toLowerCase();
}

/** Names are the same in capitals, and with or without the dot of the root. */
function bareName(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

function sameName(a: string, b: string): boolean {
  return bareName(a) === bareName(b);
}

function isPort(value: unknown): value is number {
  return typeof value === "number" && value > 0 && value <= 0xffff;
}
