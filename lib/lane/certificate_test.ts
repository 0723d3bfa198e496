import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import * as asn1js from "asn1js";
import { encodeSignature, makeCertificate, SERVER_NAME } from "./certificate.ts";

Deno.test("makeCertificate(): the certificate is as docs/protocol.md says", async () => {
  const { der, certificatePem } = await makeCertificate();
  const certificate = new X509Certificate(der);
  assert.deepEqual(
    [certificate.subject, certificate.issuer, certificate.ca],
    [`CN=${SERVER_NAME}`, `CN=${SERVER_NAME}`, false],
  );
  assert.equal(certificate.validFrom, "Jan  1 00:00:00 1970 GMT");
  assert.equal(certificate.validTo, "Dec 31 23:59:59 9999 GMT");
  assert.equal(certificate.subjectAltName, `DNS:${SERVER_NAME}`);
  assert.equal(certificate.verify(certificate.publicKey), true);
  assert.equal(new X509Certificate(certificatePem).fingerprint256, certificate.fingerprint256);
});

Deno.test("makeCertificate(): does not depend on the clock", async () => {
  const { now } = Date;
  try {
    for (const date of ["1970-01-01", "2000-02-29", "2056-11-28", "9999-12-31"]) {
      Date.now = () => Date.parse(date);
      const { der } = await makeCertificate();
      assert.match(new X509Certificate(der).validTo, /9999/, date);
    }
  } finally {
    Date.now = now;
  }
});

Deno.test("encodeSignature(): the integers of a signature have no needless bytes and no sign", () => {
  const half = (...start: number[]) => [...start, ...new Array<number>(32 - start.length).fill(7)];
  const encode = (
    r: number[],
    s: number[],
  ) => [...new Uint8Array(encodeSignature(asn1js, Uint8Array.from([...r, ...s])))];
  const integer = (...bytes: number[]) => [0x02, bytes.length, ...bytes];
  const tail = (count: number) => new Array<number>(count).fill(7);
  const sequence = (content: number[]) => [0x30, content.length, ...content];
  assert.deepEqual(
    encode(half(0x80), half(0x7f)),
    sequence([...integer(0, 0x80, ...tail(31)), ...integer(0x7f, ...tail(31))]),
  );
  assert.deepEqual(
    encode(half(0, 0, 1), half(0, 0, 0x80)),
    sequence([...integer(1, ...tail(29)), ...integer(0, 0x80, ...tail(29))]),
  );
});
