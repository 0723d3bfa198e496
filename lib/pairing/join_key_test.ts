import assert from "node:assert/strict";
import { join } from "node:path";
import { Failure } from "../console/failure.ts";
import { joinKey } from "./join_key.ts";

const onUnix = { ignore: Deno.build.os === "windows" };

async function withPath(body: (path: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(join(folder, "join-key"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("joinKey() makes a key once, also if two processes ask at once", onUnix, async () => {
  await withPath(async (path) => {
    const [key, ...others] = await Promise.all([joinKey(path), joinKey(path), joinKey(path)]);
    assert.equal(key!.length, 32);
    for (const other of [...others, await joinKey(path)]) assert.deepEqual(other, key);
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    await Deno.remove(path);
    assert.notDeepEqual(await joinKey(path), key);
  });
});

Deno.test("joinKey() says which file is damaged, and keeps it", async () => {
  await withPath(async (path) => {
    await Deno.writeTextFile(path, "frob\n");
    await assert.rejects(joinKey(path), (error) => {
      assert(error instanceof Failure);
      return error.message.includes(path) && !error.message.includes("frob");
    });
    assert.equal(await Deno.readTextFile(path), "frob\n");
  });
});
