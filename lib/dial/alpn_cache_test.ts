import assert from "node:assert/strict";
import { join } from "node:path";
import { rememberDumbpipeOnly, speaksDumbpipeOnly } from "./alpn_cache.ts";

const key = new Uint8Array(32).fill(7);
const HOUR_MS = 60 * 60 * 1000;

Deno.test("alpn_cache remembers for a day that a peer speaks only dumbpipe's protocol", async () => {
  const dir = await Deno.makeTempDir();
  try {
    assert.equal(await speaksDumbpipeOnly(key, [dir]), false);
    await rememberDumbpipeOnly(key, dir);
    assert.equal(await speaksDumbpipeOnly(key, [dir]), true);
    assert.equal(await speaksDumbpipeOnly(new Uint8Array(32), [dir]), false);
    const path = join(dir, `${"07".repeat(32)}.dumbpipe`);
    const setAge = async (hours: number) => {
      const time = new Date(Date.now() - hours * HOUR_MS);
      await Deno.utime(path, time, time);
    };
    await setAge(23);
    assert.equal(await speaksDumbpipeOnly(key, [dir]), true);
    await setAge(25);
    assert.equal(await speaksDumbpipeOnly(key, [dir]), false);
    await rememberDumbpipeOnly(key, dir); // the peer has said so again
    assert.equal(await speaksDumbpipeOnly(key, [dir]), true);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("alpn_cache does not throw if the folder is missing", async () => {
  const missing = join(import.meta.dirname!, "missing");
  await rememberDumbpipeOnly(key, missing);
  assert.equal(await speaksDumbpipeOnly(key, [missing]), false);
});
