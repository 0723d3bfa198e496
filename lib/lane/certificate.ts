/** The certificate of one end of a lane: made for one lane, self-signed, never stored. */

import { base64 } from "@scure/base";

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
/** General name of the type dNSName (RFC 5280, section 4.2.1.6). */
const DNS_NAME = 2;
/**
 * Dates of each certificate: from the earliest that a clock can show, to the one that stands for no end (RFC 5280,
 * section 4.1.2.5). TLS compares them with the clock, which may be wrong at either end.
 */
const NOT_BEFORE = new Date(0), NOT_AFTER = new Date("9999-12-31T23:59:59Z");
/** Forms of a date (RFC 5280, section 4.1.2.5), as the package pkijs numbers them. From 2050 on it is the second. */
const UTC_TIME = 0, GENERALIZED_TIME = 1;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" };

/** Makes a certificate with a fresh key. */
export async function makeCertificate(): Promise<Certificate> {
  const [pkijs, asn1js, keys] = await Promise.all([
    import("pkijs"),
    import("asn1js"),
    crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as Promise<CryptoKeyPair>,
  ]);
  const certificate = new pkijs.Certificate();
  certificate.version = 2; // X.509 v3 (RFC 5280, section 4.1.2.1)
  certificate.serialNumber = new asn1js.Integer({ value: 1 });
  for (const name of [certificate.issuer, certificate.subject]) {
    const value = new asn1js.Utf8String({ value: SERVER_NAME });
    name.typesAndValues.push(new pkijs.AttributeTypeAndValue({ type: COMMON_NAME, value }));
  }
  certificate.notBefore = new pkijs.Time({ type: UTC_TIME, value: NOT_BEFORE });
  certificate.notAfter = new pkijs.Time({ type: GENERALIZED_TIME, value: NOT_AFTER });
  const names = new pkijs.GeneralNames({
    names: [new pkijs.GeneralName({ type: DNS_NAME, value: SERVER_NAME })],
  });
  certificate.extensions = [
    new pkijs.Extension({
      extnID: SUBJECT_ALTERNATIVE_NAME,
      critical: false,
      extnValue: names.toSchema().toBER(false),
    }),
  ];
  await certificate.subjectPublicKeyInfo.importKey(keys.publicKey);
  await certificate.sign(keys.privateKey, "SHA-256");
  const der = new Uint8Array(certificate.toSchema(true).toBER(false));
  const key = new Uint8Array(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  return { der, certificatePem: certificatePem(der), privateKeyPem: pem("PRIVATE KEY", key) };
}

/** Returns a certificate as text (RFC 7468). */
export function certificatePem(der: Uint8Array): string {
  return pem("CERTIFICATE", der);
}

function pem(label: string, bytes: Uint8Array): string {
  const lines = base64.encode(bytes).replace(/.{64}/g, "$&\n").trimEnd();
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}
