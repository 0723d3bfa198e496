/** What tests of lanes and of their parts share. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { connectTls } from "../lib/lane/tls.ts";

/** Timeout for a port to refuse a connection, or for another test to show another certificate at it. */
const REFUSAL_TIMEOUT_MS = 10_000;

/** A lane, or a transport of one. */
interface Carrier {
  read(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  release?(piece: Uint8Array<ArrayBuffer>): void;
  write(bytes: Uint8Array): Promise<void>;
  close(): void;
}

/** Checks that bytes pass in both directions, and closes both ends. */
export async function assertCarries([a, b]: readonly [Carrier, Carrier]): Promise<void> {
  const data = randomBytes(3_000_000); // enough for several turns of the connections of a QUIC lane
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const [taken] = await Promise.all([take(to, data.length), from.write(data)]);
    assert.equal(Buffer.compare(taken, data), 0);
  }
  a.close();
  b.close();
}

/** Asserts that the TLS port of a certificate is closed. Its number may be that of another test's port by now. */
export async function assertClosed(address: string, certificate: Uint8Array): Promise<void> {
  const limit = AbortSignal.timeout(REFUSAL_TIMEOUT_MS);
  await assert.rejects(connectTls(address, certificate, limit));
  assert(!limit.aborted, "the port is open, and nobody accepts");
}

/** Reads exactly `length` bytes. */
async function take(from: Carrier, length: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for (let left = length; left > 0; left -= pieces.at(-1)!.length) {
    const piece = await from.read();
    assert(piece && piece.length <= left);
    pieces.push(piece.slice());
    from.release?.(piece);
  }
  return Buffer.concat(pieces);
}

/** Collects garbage until a condition holds: Deno closes a QUIC socket when it collects its endpoint. */
export async function collectUntil(condition: () => Promise<boolean>): Promise<void> {
  const { gc } = globalThis as { gc?: () => void };
  const deadline = performance.now() + 40_000;
  while (!await condition()) {
    assert(performance.now() < deadline);
    gc!();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
