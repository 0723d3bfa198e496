import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { makeCertificate, SERVER_NAME } from "./certificate.ts";

Deno.test("makeCertificate(): the certificate is as docs/protocol.md says", async () => {
  const { der, certificatePem } = await makeCertificate();
  const certificate = new X509Certificate(der);
  assert.deepEqual(
    [certificate.subject, certificate.issuer, certificate.ca],
    [`CN=${SERVER_NAME}`, `CN=${SERVER_NAME}`, false],
  );
  assert.equal(certificate.validFrom, "Jan  1 00:00:00 1970 GMT");
  assert.equal(certificate.validTo, "Dec 31 23:59:59 9999 GMT");
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
