import assert from "node:assert/strict";
import { join } from "node:path";
import { LastSeenFile, readLastSeen } from "./last_seen.ts";
import { listenerFolder } from "../repository/listener_folder.ts";
import type { Repository } from "../repository/repository.ts";

const KEY = "ab".repeat(32);

async function withRepository(
  body: (repository: Repository, path: string) => Promise<void>,
): Promise<void> {
  const repository = { gitDir: await Deno.makeTempDir() };
  await Deno.mkdir(listenerFolder(repository), { recursive: true });
  try {
    await body(repository, join(listenerFolder(repository), "peers.json"));
  } finally {
    await Deno.remove(repository.gitDir, { recursive: true });
  }
}

Deno.test("LastSeenFile writes a peer after its delay, and reads it back", async () => {
  await withRepository(async (repository) => {
    await using file = new LastSeenFile(repository, 5);
    file.note(KEY);
    while (readLastSeen(repository).size === 0) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.deepEqual(readLastSeen(repository).get(KEY), file.of(KEY));
  });
});

Deno.test("LastSeenFile writes what is left when the listener stops", async () => {
  await withRepository(async (repository) => {
    {
      await using file = new LastSeenFile(repository, 60_000);
      file.note(KEY);
    }
    assert.equal(new LastSeenFile(repository).of(KEY) instanceof Date, true);
  });
});

Deno.test("LastSeenFile keeps the 200 peers that were seen last", async () => {
  await withRepository(async (repository) => {
    {
      await using file = new LastSeenFile(repository, 60_000);
      file.note(KEY);
      for (let i = 0; i < 200; i++) file.note(i.toString(16).padStart(64, "0"));
    }
    const seen = readLastSeen(repository);
    assert.equal(seen.size, 200);
    assert(!seen.has(KEY));
  });
});

Deno.test("readLastSeen() skips what is damaged", async () => {
  await withRepository(async (repository, path) => {
    const content = {
      [KEY]: "2026-01-02T03:04:05.000Z",
      short: "2026-01-02",
      ["cd".repeat(32)]: "x",
    };
    await Deno.writeTextFile(path, JSON.stringify(content));
    assert.deepEqual([...readLastSeen(repository).keys()], [KEY]);
    for (const damaged of ["", "{", "null", "x".repeat(100_000)]) {
      await Deno.writeTextFile(path, damaged);
      assert.equal(readLastSeen(repository).size, 0);
    }
  });
});
