import assert from "node:assert/strict";
import { base64 } from "@scure/base";
import { pipe } from "../../tests/pipe.ts";
import { MessageFormat } from "../streams/message_format.ts";
import { decodeOffer, encodeOffer, InvalidOffer, MAX_OFFER_BYTES, SECRET_BYTES } from "./offer.ts";
import { SignalingKind, SignalingStream } from "./signaling.ts";

const VALID = {
  certificate: base64.encode(new Uint8Array(300)),
  secret: base64.encode(new Uint8Array(SECRET_BYTES)),
  tcp: ["192.0.2.1:1"],
  udp: ["[2001:db8::1]:2"],
};

function encode(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function addressesIn(list: unknown[]): readonly string[] {
  return decodeOffer(encode({ ...VALID, tcp: list })).tcp;
}

Deno.test("decodeOffer(): skips addresses that have another form, or at which no peer can be", () => {
  const wrong = [
    "192.0.2.1:0",
    "0.0.0.0:1",
    "0.9.9.9:1",
    "224.0.0.251:1",
    "255.255.255.255:1",
    "[::]:1",
    "[ff02::fb]:1",
    "[fe80::1%eth0]:1",
    "192.0.2.1",
    "192.0.2.1:65536",
    "192.0.2.256:1",
    "example.com:1",
    "2001:db8::1:1",
    " 192.0.2.1:1",
    "192.0.2.1:1\n",
    "",
    7,
    null,
    ["192.0.2.1:1"],
    { host: "192.0.2.1" },
  ];
  for (const address of wrong) {
    assert.deepEqual(addressesIn([address, "192.0.2.1:1"]), ["192.0.2.1:1"], `${address}`);
  }
  const right = ["192.0.2.1:65535", "[2001:db8::1]:1", "[::1]:1", "127.0.0.1:1"];
  assert.deepEqual(addressesIn(right), right);
});

Deno.test("decodeOffer(): takes 16 addresses of a list, and ignores the others", () => {
  const many = Array.from({ length: 20 }, (_, i) => `192.0.2.${i}:1`);
  const offer = decodeOffer(encode({ ...VALID, tcp: many, udp: many }));
  assert.deepEqual([offer.tcp, offer.udp], [many.slice(0, 16), many.slice(0, 16)]);
  const sent = encodeOffer({ ...offer, tcp: many, udp: many });
  assert.deepEqual(JSON.parse(new TextDecoder().decode(sent)).udp, many.slice(0, 16));
});

Deno.test("decodeOffer(): takes a certificate of 2 KiB, and a secret of 32 bytes, but no others", () => {
  const decode = (certificate: number, secret: number) =>
    decodeOffer(encode({
      ...VALID,
      certificate: base64.encode(new Uint8Array(certificate)),
      secret: base64.encode(new Uint8Array(secret)),
    }));
  assert.equal(decode(2048, 32).certificate.length, 2048);
  for (const [certificate, secret] of [[2049, 32], [300, 31], [300, 33], [300, 0]] as const) {
    assert.throws(() => decode(certificate, secret), InvalidOffer, `${certificate}, ${secret}`);
  }
});

Deno.test("decodeOffer(): refuses what is no offer", () => {
  const wrong = [null, 1, "text", [], {}, { ...VALID, tcp: "192.0.2.1:1" }, { ...VALID, udp: null }]
    .map(encode);
  const texts = ["", "{", "null", `{"certificate":1}`, JSON.stringify(VALID).slice(0, -1)]
    .map((text) => new TextEncoder().encode(text));
  const notBase64 = ["", "A", "AA", "=", "é", "AAAA AAAA", "_-__"].flatMap((text) =>
    ["certificate", "secret"].filter((field) => field === "secret" || text !== "")
      .map((field) => encode({ ...VALID, [field]: text }))
  );
  const notUtf8 = Uint8Array.of(0xff, ...encode(VALID));
  for (const bytes of [...wrong, ...texts, ...notBase64, notUtf8]) {
    assert.throws(() => decodeOffer(bytes), InvalidOffer, new TextDecoder().decode(bytes));
  }
});

Deno.test("SignalingStream: reads an offer of 8 KiB, and no message that is longer", async () => {
  const format = new MessageFormat(2), certificate = base64.encode(new Uint8Array(2048));
  const longest = encode({ ...VALID, certificate, padding: "" });
  const padding = "x".repeat(MAX_OFFER_BYTES - longest.length);
  const [near, far] = pipe(), writer = near.writable.getWriter();
  const messages = new SignalingStream(far);
  writer.write(
    format.encode(SignalingKind.OFFER, encode({ ...VALID, certificate, padding })),
  ).catch(() => {}); // the test reads it
  assert.equal((await messages.receive())?.kind, "offer");
  const header = format.encode(SignalingKind.OFFER, new Uint8Array(MAX_OFFER_BYTES + 1))
    .subarray(0, format.headerBytes);
  writer.write(header).catch(() => {}); // the test reads it
  await assert.rejects(messages.receive(), { message: "a message of 8193 bytes is too long" });
});
