/**
 * iroh's endpoint tickets, the addresses of this program.
 *
 * The format, from iroh-tickets 1.0 (`EndpointTicket`) and postcard's specification
 * (https://postcard.jamesmunns.com/wire-format): "endpoint", then in lower-case base32 without
 * padding: variant 00, the 32 bytes of the public key, the number of addresses as a varint, and each
 * address: 00 and a relay URL (length as a varint, UTF-8) · 01 and a socket address (00 and 4 bytes, or
 * 01 and 16 bytes, then the port as a varint). iroh knows a third kind of address, for transports that
 * programs bring along themselves; its form differs between versions of iroh, and it is not taken here.
 */

import { base32nopad } from "@scure/base";
import { UsageError } from "../console/failure.ts";
import { printable } from "../console/stderr.ts";

/** Who a peer is, and where it might be found. */
export interface Ticket {
  /** Ed25519 public key, 32 bytes. Not checked to be a point of the curve. */
  readonly publicKey: Uint8Array;
  /** URLs of relays that know the peer. */
  readonly relays: readonly string[];
  /** Socket addresses of the peer, as `1.2.3.4:5` or `[::1]:5`. */
  readonly direct: readonly string[];
}

/** Length of a public key in bytes. */
export const PUBLIC_KEY_BYTES = 32;

const KIND = "endpoint";
/** Tickets that iroh programs print; their holders mean something else than a repository. */
const OTHER_KINDS = ["blob", "doc", "docs", "node", "gossip"];
/** Longest address taken. A ticket with ten relays and thirty socket addresses has about 1,000. */
const MAX_CHARACTERS = 4096;
/** More of either are read past: each costs an attempt. */
const MOST_RELAYS = 8, MOST_DIRECT = 32;
const ADDRESS_RELAY = 0, ADDRESS_IP = 1;

/** The text is not the address of a repository. */
export class TicketError extends UsageError {
  constructor(message: string) {
    super(
      message,
      "an address starts with endpoint, and the peer prints its own with git-annex-p2p-iroh address",
    );
  }
}

/** The ticket as text. It names the key, then its relays, then its socket addresses left out. */
export function encodeTicket(ticket: Pick<Ticket, "publicKey" | "relays">): string {
  const bytes = [0, ...ticket.publicKey, ...varint(ticket.relays.length)];
  for (const relay of ticket.relays) {
    const url = new TextEncoder().encode(relay);
    bytes.push(ADDRESS_RELAY, ...varint(url.length), ...url);
  }
  return KIND + base32nopad.encode(Uint8Array.from(bytes)).toLowerCase();
}

/**
 * Reads a ticket, as strictly as iroh does.
 *
 * @throws {TicketError} if the text is none, is damaged, or is one for another kind of thing.
 */
export function decodeTicket(text: string): Ticket {
  const shown = `"${printable(text, 60)}"`;
  if (text.length > MAX_CHARACTERS) throw new TicketError(`${shown} is too long for an address`);
  if (!text.startsWith(KIND)) {
    const other = OTHER_KINDS.find((kind) => text.startsWith(kind) && text.length > 40);
    throw new TicketError(
      other ? `${shown} is a ${other} ticket, not an address` : `${shown} is not an address`,
    );
  }
  try {
    return readTicket(base32nopad.decode(text.slice(KIND.length).toUpperCase()));
  } catch (error) {
    const why = error instanceof Damage ? error.message : "not base32";
    throw new TicketError(`the address ${shown} is damaged, ${why}`);
  }
}

/** What is wrong inside a ticket. */
class Damage extends Error {}

function readTicket(bytes: Uint8Array): Ticket {
  const reader = new Reader(bytes);
  if (reader.varint() !== 0) throw new Damage("of an unknown version");
  const publicKey = reader.readBytes(PUBLIC_KEY_BYTES);
  const relays: string[] = [], direct: string[] = [];
  for (let left = reader.varint(); left > 0; left--) {
    switch (reader.varint()) {
      case ADDRESS_RELAY:
        relays.push(reader.relayUrl());
        break;
      case ADDRESS_IP:
        direct.push(reader.socketAddress());
        break;
      default:
        throw new Damage("with an unknown kind of address in it");
    }
  }
  return {
    publicKey,
    // Others are URLs to iroh, too, but nothing that could be dialed.
    relays: relays.filter((url) => /^https?:/.test(url)).slice(0, MOST_RELAYS),
    direct: direct.slice(0, MOST_DIRECT),
  };
}

class Reader {
  #offset = 0;
  constructor(readonly bytes: Uint8Array) {}

  readBytes(length: number): Uint8Array {
    const end = this.#offset + length;
    if (end > this.bytes.length) throw new Damage("cut short");
    const part = this.bytes.slice(this.#offset, end);
    this.#offset = end;
    return part;
  }

  varint(max = 0xffff_ffff): number {
    let value = 0n;
    for (let shift = 0n; shift < 35n; shift += 7n) {
      const byte = BigInt(this.readBytes(1)[0]!);
      value |= (byte & 0x7fn) << shift;
      if (byte < 0x80n && value <= BigInt(max)) return Number(value);
      if (byte < 0x80n) break;
    }
    throw new Damage("with a number out of range");
  }

  relayUrl(): string {
    const bytes = this.readBytes(this.varint());
    try {
      return new URL(new TextDecoder("utf-8", { fatal: true }).decode(bytes)).href;
    } catch {
      throw new Damage("with a relay URL that is none");
    }
  }

  socketAddress(): string {
    const family = this.varint();
    if (family > 1) throw new Damage("with an unknown kind of address in it");
    const host = family === 0 ? this.readBytes(4).join(".") : `[${ipv6(this.readBytes(16))}]`;
    return `${host}:${this.varint(0xffff)}`;
  }
}

function ipv6(bytes: Uint8Array): string {
  const groups = new DataView(bytes.buffer);
  const text = Array.from({ length: 8 }, (_, i) => groups.getUint16(2 * i).toString(16)).join(":");
  return new URL(`http://[${text}]`).hostname.slice(1, -1); // the URL parser shortens it
}

function varint(value: number): number[] {
  const bytes = [];
  for (; value >= 0x80; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return [...bytes, value];
}

/** Whether two things have the same public key. */
export function samePublicKey(
  a: { readonly publicKey: Uint8Array },
  b: { readonly publicKey: Uint8Array },
): boolean {
  return a.publicKey.length === b.publicKey.length &&
    a.publicKey.every((byte, i) => byte === b.publicKey[i]);
}
