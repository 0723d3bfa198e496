/** What each end tells the other, inside iroh's connection, of how to reach it directly. */

import { base64 } from "@scure/base";
import { BlockList, isIP } from "node:net";
import { parseSocketAddress, splitSocketAddress } from "../platform/socket_address.ts";

/** How to reach one end. */
export interface Offer {
  /** What it shows: DER. */
  readonly certificate: Uint8Array<ArrayBuffer>;
  /** What is to be shown to it. */
  readonly secret: Uint8Array;
  /** Socket addresses where it listens for TLS, and for QUIC. */
  readonly tcp: readonly string[];
  readonly udp: readonly string[];
}

/** What should have been an offer. */
export class InvalidOffer extends Error {
  override readonly name = "InvalidOffer";
}

/** Longest offer that is read, in bytes. */
export const MOST_OFFER_BYTES = 8 * 1024;
/** Length of the secret. */
export const SECRET_BYTES = 32;
const MOST_ADDRESSES = 16;
const MOST_CERTIFICATE_BYTES = 2 * 1024;

/** An offer as JSON. */
export function encodeOffer({ certificate, secret, tcp, udp }: Offer): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify({
    certificate: base64.encode(certificate),
    secret: base64.encode(secret),
    tcp: tcp.slice(0, MOST_ADDRESSES),
    udp: udp.slice(0, MOST_ADDRESSES),
  }));
}

/** @throws {InvalidOffer} if it is none. Addresses that make no sense are left out. */
export function decodeOffer(bytes: Uint8Array): Offer {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    const { certificate, secret, tcp, udp } = JSON.parse(text);
    const offer = {
      certificate: Uint8Array.from(base64.decode(certificate)),
      secret: base64.decode(secret),
      tcp: addresses(tcp),
      udp: addresses(udp),
    };
    if (offer.certificate.length > MOST_CERTIFICATE_BYTES) throw new Error("a long certificate");
    if (offer.secret.length !== SECRET_BYTES) throw new Error("a secret of another length");
    return offer;
  } catch (error) {
    throw new InvalidOffer("what came is no offer", { cause: error });
  }
}

function addresses(value: unknown): string[] {
  if (!Array.isArray(value)) throw new Error("no list of addresses");
  return value.slice(0, MOST_ADDRESSES).filter((address) =>
    typeof address === "string" && parseSocketAddress(address) !== undefined && isDialable(address)
  );
}

const NOT_DIALABLE = new BlockList();
NOT_DIALABLE.addSubnet("0.0.0.0", 8, "ipv4");
NOT_DIALABLE.addSubnet("224.0.0.0", 3, "ipv4"); // multicast, broadcast and what is reserved
NOT_DIALABLE.addSubnet("ff00::", 8, "ipv6");
NOT_DIALABLE.addAddress("::", "ipv6");

function isDialable(address: string): boolean {
  const { host, port } = splitSocketAddress(address);
  return port > 0 && !NOT_DIALABLE.check(host, isIP(host) === 6 ? "ipv6" : "ipv4");
}
