/** A certificate for one lane: made when it is needed, signed by itself, never stored. */

import { base64 } from "@scure/base";

/** What whoever listens shows, as TLS and QUIC want it. */
export interface Certificate {
  readonly der: Uint8Array<ArrayBuffer>;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/**
 * The name in it. Reserved to name nothing (RFC 6761), so that nobody who signs certificates for others
 * has ever signed one for it: Deno trusts those, too, beside the one that is expected.
 */
export const SERVER_NAME = "lane.invalid";
const COMMON_NAME = "2.5.4.3", SUBJECT_ALTERNATIVE_NAME = "2.5.29.17";
const DNS_NAME = 2;
const DAY_MS = 24 * 60 * 60 * 1000;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" };

/** Makes one, with a key of its own. */
export async function makeCertificate(): Promise<Certificate> {
  const [pkijs, asn1js, keys] = await Promise.all([
    import("pkijs"),
    import("asn1js"),
    crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as Promise<CryptoKeyPair>,
  ]);
  const certificate = new pkijs.Certificate();
  certificate.version = 2; // which is X.509 v3
  certificate.serialNumber = new asn1js.Integer({ value: 1 });
  for (const name of [certificate.issuer, certificate.subject]) {
    const value = new asn1js.Utf8String({ value: SERVER_NAME });
    name.typesAndValues.push(new pkijs.AttributeTypeAndValue({ type: COMMON_NAME, value }));
  }
  // Clocks may be wrong, and nobody goes by the dates: the peer has the certificate itself.
  certificate.notBefore.value = new Date(Date.now() - 3650 * DAY_MS);
  certificate.notAfter.value = new Date(Date.now() + 3650 * DAY_MS);
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

/** A certificate as text (RFC 7468). */
export function certificatePem(der: Uint8Array): string {
  return pem("CERTIFICATE", der);
}

function pem(label: string, bytes: Uint8Array): string {
  const lines = base64.encode(bytes).replace(/.{64}/g, "$&\n").trimEnd();
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}
