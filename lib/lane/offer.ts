/** An offer: what one end of a session tells the other, inside iroh's connection, of how to reach it directly. */

import { base64 } from "@scure/base";
import { parseSocketAddress } from "../platform/socket_address.ts";
import { isPeerAddress } from "./dialable.ts";

/** How to reach one end. */
export interface Offer {
  /** The certificate that this end shows, as DER. */
  readonly certificate: Uint8Array<ArrayBuffer>;
  /** The secret that the other end must show. */
  readonly secret: Uint8Array;
  /** Socket addresses at which this end listens for TLS. */
  readonly tcp: readonly string[];
  /** Socket addresses at which this end listens for QUIC. */
  readonly udp: readonly string[];
}

/** What came is not a valid offer. */
export class InvalidOffer extends Error {
  override readonly name = "InvalidOffer";
}

/** Maximum length of an offer that is read. One with all addresses and the longest certificate has half of it. */
export const MAX_OFFER_BYTES = 8 * 1024;
/** Length of the secret. */
export const SECRET_BYTES = 32;
/** Maximum addresses for TLS, and for QUIC, since each is dialed. Others are ignored. */
const MAX_ADDRESSES = 16;
/** Maximum length of a certificate. One of {@linkcode makeCertificate} has less than 400 bytes. */
const MAX_CERTIFICATE_BYTES = 2 * 1024;

/** Returns an offer as JSON. */
export function encodeOffer({ certificate, secret, tcp, udp }: Offer): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify({
    certificate: base64.encode(certificate),
    secret: base64.encode(secret),
    tcp: tcp.slice(0, MAX_ADDRESSES),
    udp: udp.slice(0, MAX_ADDRESSES),
  }));
}

/** Reads an offer. Leaves out addresses at which no peer can be. @throws {InvalidOffer} if it is none. */
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
    if (offer.certificate.length > MAX_CERTIFICATE_BYTES) throw new Error("a long certificate");
    if (offer.secret.length !== SECRET_BYTES) throw new Error("a secret of another length");
    return offer;
  } catch (error) {
    throw new InvalidOffer("the offer of a lane is invalid", { cause: error });
  }
}

function addresses(value: unknown): string[] {
  if (!Array.isArray(value)) throw new Error("no list of addresses");
  return value.slice(0, MAX_ADDRESSES).filter((address) =>
    typeof address === "string" && parseSocketAddress(address) !== undefined &&
    isPeerAddress(address)
  );
}
