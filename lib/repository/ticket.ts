/**
 * Encodes and decodes iroh's endpoint tickets, which are the addresses of this program.
 *
 * The format comes from iroh-tickets 1.0 (`EndpointTicket`) and postcard's specification
 * (https://postcard.jamesmunns.com/wire-format). A ticket is the word "endpoint", then in lower-case base32
 * without padding:
 *
 * - the variant, 00
 * - the public key, 32 bytes
 * - the number of addresses, a varint
 * - for each relay: 00, the length of its URL as a varint, and the URL in UTF-8
 * - for each socket address: 01, then 00 and 4 bytes or 01 and 16 bytes, then the port as a varint
 *
 * iroh has a third kind of address, for transports that programs add. Its form differs between versions of iroh,
 * and this program does not accept it.
 */

import { base32nopad } from "@scure/base";
import { UsageError } from "../console/failure.ts";
import { printable } from "../console/printable.ts";

/** The identity of a peer, and where it may be found. */
export interface Ticket {
  /** Ed25519 public key, 32 bytes. It may not be a point of the curve. */
  readonly publicKey: Uint8Array;
  /** URLs of relays through which the peer can be reached. */
  readonly relays: readonly string[];
  /** Socket addresses of the peer, as `1.2.3.4:5` or `[::1]:5`. */
  readonly direct: readonly string[];
}

/** Length of a public key in bytes. */
export const PUBLIC_KEY_BYTES = 32;
/** Number of hexadecimal digits by which people recognise a key. */
const SHORT_KEY_DIGITS = 10;

/** Returns the first digits of a public key, for people. @param publicKey As bytes or in hex. */
export function shortKey(publicKey: Uint8Array | string): string {
  const hex = typeof publicKey === "string" ? publicKey : publicKey.toHex();
  return hex.slice(0, SHORT_KEY_DIGITS);
}

const KIND = "endpoint";
/** Tickets of other iroh programs, which are not addresses of repositories. */
const OTHER_KINDS = ["blob", "doc", "docs", "node", "gossip"];
/** Maximum length of an address. A ticket with 10 relays and 30 socket addresses has about 1,000 characters. */
const MAX_CHARACTERS = 4096;
/** Maximum relays and socket addresses that are used, since a dial tries each of them. Others are ignored. */
const MAX_RELAYS = 8, MAX_DIRECT = 32;
/** Kinds of an address in a ticket. */
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

/** Encodes a ticket, without socket addresses. */
export function encodeTicket(ticket: Pick<Ticket, "publicKey" | "relays">): string {
  const bytes = [0, ...ticket.publicKey, ...varint(ticket.relays.length)];
  for (const relay of ticket.relays) {
    const url = new TextEncoder().encode(relay);
    bytes.push(ADDRESS_RELAY, ...varint(url.length), ...url);
  }
  return KIND + base32nopad.encode(Uint8Array.from(bytes)).toLowerCase();
}

/**
 * Decodes a ticket, as strictly as iroh does.
 *
 * @throws {TicketError} if the text is not a ticket, is damaged, or is another kind of ticket.
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

/** The bytes of a ticket are damaged. */
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
    // iroh accepts URLs of other schemes in a ticket, but cannot dial them.
    relays: relays.filter((url) => /^https?:/.test(url)).slice(0, MAX_RELAYS),
    direct: direct.slice(0, MAX_DIRECT),
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
      throw new Damage("with an invalid relay URL");
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
  return new URL(`http://[${text}]`).hostname.slice(1, -1); // the URL parser compresses the zeros
}

function varint(value: number): number[] {
  const bytes = [];
  for (; value >= 0x80; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return [...bytes, value];
}

/** Tells whether two tickets, identities or endpoints have the same public key. */
export function samePublicKey(
  a: { readonly publicKey: Uint8Array },
  b: { readonly publicKey: Uint8Array },
): boolean {
  return a.publicKey.length === b.publicKey.length &&
    a.publicKey.every((byte, i) => byte === b.publicKey[i]);
}
