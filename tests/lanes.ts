/** What tests of lanes, and of what lanes are made of, have in common. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";

/** A lane, or a transport. */
interface Carrier {
  read(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  release?(piece: Uint8Array<ArrayBuffer>): void;
  write(bytes: Uint8Array): Promise<void>;
  close(): void;
}

/** Bytes go there and back; both ends are closed then. */
export async function assertCarries([a, b]: readonly [Carrier, Carrier]): Promise<void> {
  const data = randomBytes(3_000_000); // by QUIC, several times round all connections
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const [taken] = await Promise.all([take(to, data.length), from.write(data)]);
    assert.equal(Buffer.compare(taken, data), 0);
  }
  a.close();
  b.close();
}

/** So many bytes and not one more. */
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

/** Collects garbage until something is so: Deno closes a QUIC socket by collecting its endpoint. */
export async function collectUntil(condition: () => Promise<boolean>): Promise<void> {
  const { gc } = globalThis as { gc?: () => void };
  const deadline = performance.now() + 40_000;
  while (!await condition()) {
    assert(performance.now() < deadline);
    gc!();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
