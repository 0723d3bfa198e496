/** First packets of QUIC connections, as a host sends them that never answers (RFC 9000, RFC 9001). */

import { createCipheriv, createHmac, randomBytes } from "node:crypto";

const INITIAL_SALT = "38762cf7f55934b34d179ae6a4c80cadccbb7f0a";
const VERSION = [0, 0, 0, 1];
const PACKET_BYTES = 1200, TAG_BYTES = 16;

/** Returns an Initial packet with the beginning of a ClientHello, after which a server waits for the rest. */
export function initialPacket(): Uint8Array<ArrayBuffer> {
  const destination = randomBytes(8), source = randomBytes(8);
  const hello = [1, 0, 1, 0, 3, 3, ...randomBytes(32), 32, ...randomBytes(20)];
  const crypto = [6, 0, 0x40, hello.length, ...hello];
  const before = [0xc1, ...VERSION, 8, ...destination, 8, ...source, 0];
  const length = PACKET_BYTES - before.length - 2; // packet number, payload and tag
  const header = Uint8Array.from([...before, 0x40 | length >> 8, length & 0xff, 0, 0]);
  const payload = new Uint8Array(length - 2 - TAG_BYTES);
  payload.set(crypto);

  const secret = expand(hmac(hex(INITIAL_SALT), destination), "client in", 32);
  const key = expand(secret, "quic key", 16), iv = expand(secret, "quic iv", 12);
  const cipher = createCipheriv("aes-128-gcm", key, iv).setAAD(header);
  const sealed = [...cipher.update(payload), ...cipher.final(), ...cipher.getAuthTag()];
  const protection = createCipheriv("aes-128-ecb", expand(secret, "quic hp", 16), null);
  const mask = protection.update(Uint8Array.from(sealed.slice(2, 18)));
  header[0]! ^= mask[0]! & 0x0f;
  header[header.length - 2]! ^= mask[1]!;
  header[header.length - 1]! ^= mask[2]!;
  return Uint8Array.from([...header, ...sealed]);
}

/** Whether a packet is a Retry, by which a server demands a proof of the address. */
export function isRetry(packet: Uint8Array): boolean {
  return (packet[0]! & 0xf0) === 0xf0;
}

function hex(text: string): Uint8Array {
  return Uint8Array.fromHex(text);
}

function hmac(key: Uint8Array, data: Uint8Array): Uint8Array {
  return createHmac("sha256", key).update(data).digest();
}

/** HKDF-Expand-Label of TLS 1.3, for at most 32 bytes. */
function expand(secret: Uint8Array, label: string, length: number): Uint8Array {
  const full = new TextEncoder().encode(`tls13 ${label}`);
  const info = Uint8Array.from([0, length, full.length, ...full, 0, 1]);
  return hmac(secret, info).subarray(0, length);
}
