/** The certificate of one end of a lane: made for one lane, self-signed, never stored. */

import { base64 } from "@scure/base";
import type * as asn1js from "asn1js";

/** The certificate that a listening port shows, in the forms that Deno's TLS and QUIC take. */
export interface Certificate {
  readonly der: Uint8Array<ArrayBuffer>;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/**
 * Server name in the certificate. The domain `invalid` is reserved (RFC 6761), so no public authority signs a
 * certificate for it. Deno would trust such a certificate beside the expected one.
 */
export const SERVER_NAME = "lane.invalid";
const COMMON_NAME = "2.5.4.3", SUBJECT_ALTERNATIVE_NAME = "2.5.29.17";
const ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";
/** Tags of a certificate's fields (RFC 5280, sections 4.1 and 4.2.1.6). */
const VERSION_TAG = 0, EXTENSIONS_TAG = 3, DNS_NAME_TAG = 2;
const CONTEXT_SPECIFIC = 3;
const X509_V3 = 2;
/**
 * Dates of each certificate: from the earliest that a clock can show, to the one that stands for no end (RFC 5280,
 * section 4.1.2.5). TLS compares them with the clock, which may be wrong at either end.
 */
const NOT_BEFORE = new Date(0), NOT_AFTER = new Date("9999-12-31T23:59:59Z");
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** Makes a certificate with a fresh key (RFC 5280, section 4.1). */
export async function makeCertificate(): Promise<Certificate> {
  const [asn1, { publicKey, privateKey }] = await Promise.all([
    import("asn1js"),
    crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as Promise<CryptoKeyPair>,
  ]);
  const sequence = (...value: asn1js.BaseBlock[]) => new asn1.Sequence({ value });
  const identifier = (value: string) => new asn1.ObjectIdentifier({ value });
  const explicit = (tagNumber: number, value: asn1js.BaseBlock) =>
    new asn1.Constructed({ idBlock: { tagClass: CONTEXT_SPECIFIC, tagNumber }, value: [value] });

  const commonName = sequence(
    identifier(COMMON_NAME),
    new asn1.Utf8String({ value: SERVER_NAME }),
  );
  const name = sequence(new asn1.Set({ value: [commonName] }));
  const subjectAlternativeName = sequence(
    new asn1.Primitive({
      idBlock: { tagClass: CONTEXT_SPECIFIC, tagNumber: DNS_NAME_TAG },
      valueHex: new TextEncoder().encode(SERVER_NAME),
    }),
  );
  const extension = sequence(
    identifier(SUBJECT_ALTERNATIVE_NAME),
    new asn1.OctetString({ valueHex: subjectAlternativeName.toBER() }),
  );
  const signatureAlgorithm = sequence(identifier(ECDSA_WITH_SHA256));
  const toBeSigned = sequence(
    explicit(VERSION_TAG, new asn1.Integer({ value: X509_V3 })),
    new asn1.Integer({ value: 1 }), // the serial number
    signatureAlgorithm,
    name,
    sequence(
      new asn1.UTCTime({ valueDate: NOT_BEFORE }),
      new asn1.GeneralizedTime({ valueDate: NOT_AFTER }),
    ),
    name,
    asn1.fromBER(await crypto.subtle.exportKey("spki", publicKey)).result,
    explicit(EXTENSIONS_TAG, sequence(extension)),
  );
  const signature = await crypto.subtle.sign(ALGORITHM, privateKey, toBeSigned.toBER());
  const certificate = sequence(
    toBeSigned,
    signatureAlgorithm,
    new asn1.BitString({ valueHex: encodeSignature(asn1, new Uint8Array(signature)) }),
  );
  const der = new Uint8Array(certificate.toBER());
  const key = new Uint8Array(await crypto.subtle.exportKey("pkcs8", privateKey));
  return { der, certificatePem: certificatePem(der), privateKeyPem: pem("PRIVATE KEY", key) };
}

/**
 * Returns an ECDSA signature as X.509 has it: a sequence of two integers (RFC 5480, appendix A).
 *
 * @param signature As Web Crypto makes it: both numbers, big-endian and of equal length.
 */
export function encodeSignature(asn1: typeof asn1js, signature: Uint8Array): ArrayBuffer {
  const middle = signature.length / 2;
  const halves = [signature.subarray(0, middle), signature.subarray(middle)];
  const value = halves.map((half) => asn1.Integer.fromBigInt(BigInt(`0x${half.toHex()}`)));
  return new asn1.Sequence({ value }).toBER();
}

/** Returns a certificate as text (RFC 7468). */
export function certificatePem(der: Uint8Array): string {
  return pem("CERTIFICATE", der);
}

function pem(label: string, bytes: Uint8Array): string {
  const lines = base64.encode(bytes).replace(/.{64}/g, "$&\n").trimEnd();
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}
