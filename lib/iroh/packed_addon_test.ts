import assert from "node:assert/strict";
import { join } from "node:path";
import { packAddon, PackedAddon } from "./packed_addon.ts";

/** Calls `body` with the path of a packed file, and with a path for another file. */
async function withPacked(
  content: Uint8Array,
  body: (path: string, other: string) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "addon.packed");
    await Deno.writeFile(path, packAddon(content));
    await body(path, join(dir, "other"));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("PackedAddon unpacks what was packed, and names it after its CRC-32", async () => {
  const content = new TextEncoder().encode("123456789");
  await withPacked(content, (path) => {
    const packed = new PackedAddon(path);
    assert.deepEqual(new Uint8Array(packed.unpack()), content);
    assert.equal(packed.name, "iroh-cbf43926.node"); // the check value in CRC-32's definition
    return Promise.resolve();
  });
});

Deno.test("PackedAddon.isIn() recognises its content, of any length", async () => {
  for (const length of [0, 1, 256 * 1024 - 1, 256 * 1024, 600_000]) {
    const content = new Uint8Array(length).map((_, i) => i >> 8 ^ i);
    await withPacked(content, async (path, other) => {
      const packed = new PackedAddon(path);
      await Deno.writeFile(other, content);
      assert(packed.isIn(other), `${length}`);
      await Deno.writeFile(other, new Uint8Array(1), { append: true });
      assert(!packed.isIn(other), `${length} and one more`);
      await Deno.writeFile(other, content.subarray(1));
      assert.equal(packed.isIn(other), length === 0);
    });
  }
});

Deno.test("PackedAddon fails if it is damaged or missing", async () => {
  // Brotli stores random bytes as they are, and does not detect a change.
  const content = crypto.getRandomValues(new Uint8Array(1000));
  await withPacked(content, async (path, other) => {
    const bytes = await Deno.readFile(path);
    for (const at of [bytes.length >> 1, bytes.length - 8, bytes.length - 4]) {
      const damaged = bytes.slice();
      damaged[at]! ^= 1;
      await Deno.writeFile(path, damaged);
      assert.throws(() => new PackedAddon(path).unpack(), /damaged/);
    }
    await Deno.writeFile(path, bytes.subarray(100));
    assert.throws(() => new PackedAddon(path).unpack());
    assert.throws(() => new PackedAddon(other), Deno.errors.NotFound);
  });
});
