import assert from "node:assert/strict";
import { join } from "node:path";
import { mayChown } from "../tests/users.ts";
import { type Addon, cacheFolder, CacheFolderError, ensureAddonCopy } from "./addon.ts";

const onUnix = { ignore: Deno.build.os === "windows" };
/** Longer than what is compared at once, and no multiple of it. */
const CONTENT = new Uint8Array(600_000).map((_, i) => i >> 8 ^ i);

/** A folder with an addon, and one that serves as the user's cache folder. */
async function withAddon(body: (addon: Addon, cache: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "iroh.linux-x64-gnu.node"), cache = join(dir, "cache");
    await Deno.writeFile(path, CONTENT);
    await Deno.mkdir(cache, { mode: 0o700 });
    await body({ path, version: "1.2.3" }, cache);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function assertIntact(path: string): Promise<void> {
  const info = await Deno.lstat(path);
  assert(info.isFile);
  assert.equal(info.mode! & 0o777, 0o600);
  assert.equal(info.uid, Deno.uid());
  assert.deepEqual(await Deno.readFile(path), CONTENT);
}

function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("cacheFolder() is where each system wants it", () => {
  const HOME = "/home/ann";
  assert.equal(cacheFolder({ HOME }, "linux"), "/home/ann/.cache");
  assert.equal(cacheFolder({ HOME, XDG_CACHE_HOME: "/var/ann" }, "linux"), "/var/ann");
  assert.equal(cacheFolder({ HOME, XDG_CACHE_HOME: "relative" }, "linux"), "/home/ann/.cache");
  assert.equal(cacheFolder({ HOME, XDG_CACHE_HOME: "/x" }, "darwin"), "/home/ann/Library/Caches");
  assert.equal(cacheFolder({ HOME, LOCALAPPDATA: "C:\\Ann" }, "windows"), "C:\\Ann");
  assert.equal(cacheFolder({}, "linux"), undefined);
});

Deno.test("ensureAddonCopy() makes a copy that is closed to others", onUnix, async () => {
  await withAddon(async (addon, cache) => {
    const path = await ensureAddonCopy(addon, cache);
    assert.equal(path, join(cache, "git-annex-p2p-iroh", "iroh.linux-x64-gnu-1.2.3.node"));
    await assertIntact(path);
    assert.equal((await Deno.stat(join(path, ".."))).mode! & 0o777, 0o700);
  });
});

Deno.test("ensureAddonCopy() makes the cache folder, if it is missing", onUnix, async () => {
  await withAddon(async (addon, cache) => {
    await Deno.remove(cache);
    await Deno.chmod(join(cache, ".."), 0o755);
    await assertIntact(await ensureAddonCopy(addon, cache));
    assert.equal((await Deno.stat(cache)).mode! & 0o777, 0o700);
  });
});

Deno.test("ensureAddonCopy() leaves an intact copy as it is", onUnix, async () => {
  await withAddon(async (addon, cache) => {
    const path = await ensureAddonCopy(addon, cache);
    const { ino } = await Deno.stat(path);
    assert.equal(await ensureAddonCopy(addon, cache), path);
    assert.equal((await Deno.stat(path)).ino, ino);
  });
});

Deno.test("ensureAddonCopy() replaces a copy that is not as it should be", onUnix, async (t) => {
  const spoilings: Record<string, (path: string) => Promise<void>> = {
    "damaged in its last byte": async (path) => {
      const content = CONTENT.slice();
      content[content.length - 1]! ^= 1;
      await Deno.writeFile(path, content);
    },
    "truncated": (path) => Deno.truncate(path, 2 * 256 * 1024),
    "empty": (path) => Deno.truncate(path, 0),
    "too long": (path) => Deno.writeFile(path, new Uint8Array(1), { append: true }),
    "open to the group": (path) => Deno.chmod(path, 0o660),
    "readable by all": (path) => Deno.chmod(path, 0o604),
    "a link": async (path) => {
      await Deno.rename(path, `${path}.away`);
      await Deno.symlink(`${path}.away`, path);
    },
    "a link to nothing": async (path) => {
      await Deno.remove(path);
      await Deno.symlink("nothing", path);
    },
  };
  if (Deno.uid() !== 0) spoilings["unreadable"] = (path) => Deno.chmod(path, 0);
  for (const [name, spoil] of Object.entries(spoilings)) {
    await t.step(name, () =>
      withAddon(async (addon, cache) => {
        const path = await ensureAddonCopy(addon, cache);
        await spoil(path);
        assert.equal(await ensureAddonCopy(addon, cache), path);
        await assertIntact(path);
      }));
  }
});

Deno.test("ensureAddonCopy() removes the copies of other versions, and nothing else", async () => {
  await withAddon(async (addon, cache) => {
    const folder = join(await ensureAddonCopy(addon, cache), "..");
    const others = ["iroh.darwin-arm64-1.2.3.node", "iroh.linux-x64-gnu-notes.txt", "log"];
    for (const name of others) await Deno.writeTextFile(join(folder, name), "");
    await ensureAddonCopy({ ...addon, version: "1.10.0-rc.1" }, cache);
    const copy = "iroh.linux-x64-gnu-1.10.0-rc.1.node";
    assert.deepEqual(namesIn(folder), [...others, copy].sort());
  });
});

Deno.test("ensureAddonCopy() uses no folder that cannot be trusted", onUnix, async (t) => {
  const spoilings: Record<string, [(cache: string) => Promise<void>, RegExp]> = {
    "open to others": [
      async (cache) => {
        await Deno.mkdir(join(cache, "git-annex-p2p-iroh"));
        await Deno.chmod(join(cache, "git-annex-p2p-iroh"), 0o755);
      },
      /git-annex-p2p-iroh is open to others/,
    ],
    "a link": [
      async (cache) => {
        await Deno.mkdir(join(cache, "other"), { mode: 0o700 });
        await Deno.symlink("other", join(cache, "git-annex-p2p-iroh"));
      },
      /git-annex-p2p-iroh is not a folder/,
    ],
    "in one that others can write to": [
      (cache) => Deno.chmod(cache, 0o777),
      /cache can be written by others/,
    ],
    "to be made in one that others can write to": [
      async (cache) => {
        await Deno.chmod(join(cache, ".."), 0o777);
        await Deno.remove(cache);
      },
      /can be written by others/,
    ],
  };
  for (const [name, [spoil, message]] of Object.entries(spoilings)) {
    await t.step(name, () =>
      withAddon(async (addon, cache) => {
        await spoil(cache);
        await assert.rejects(ensureAddonCopy(addon, cache), (error: CacheFolderError) => {
          assert(error instanceof CacheFolderError);
          assert.match(error.message, message);
          return true;
        });
      }));
  }
  await t.step("unknown", () =>
    withAddon(async (addon) => {
      await assert.rejects(ensureAddonCopy(addon, undefined), CacheFolderError);
      await assert.rejects(ensureAddonCopy(addon, "relative"), CacheFolderError);
    }));
});

Deno.test("ensureAddonCopy() takes a cache folder that the user's own group can write to", {
  ignore: Deno.build.os === "windows",
}, async () => {
  await withAddon(async (addon, cache) => {
    await Deno.chmod(cache, 0o775);
    await assertIntact(await ensureAddonCopy(addon, cache));
  });
});

Deno.test("ensureAddonCopy() says so where it cannot write, and leaves nothing", {
  ignore: Deno.build.os === "windows" || Deno.uid() === 0, // whom no mode keeps out
}, async () => {
  await withAddon(async (addon, cache) => {
    const folder = join(cache, "git-annex-p2p-iroh");
    await Deno.mkdir(folder, { mode: 0o500 });
    await assert.rejects(ensureAddonCopy(addon, cache), Deno.errors.PermissionDenied);
    assert.deepEqual(namesIn(folder), []);
  });
});

Deno.test(
  "ensureAddonCopy() trusts nothing of another user",
  { ignore: !mayChown() },
  async (t) => {
    await t.step("a copy is replaced", () =>
      withAddon(async (addon, cache) => {
        const path = await ensureAddonCopy(addon, cache);
        await Deno.chown(path, 12345, 12345);
        await ensureAddonCopy(addon, cache);
        await assertIntact(path);
      }));
    await t.step("a folder is not used", () =>
      withAddon(async (addon, cache) => {
        const path = await ensureAddonCopy(addon, cache);
        await Deno.chown(join(path, ".."), 12345, 12345);
        await assert.rejects(ensureAddonCopy(addon, cache), /belongs to somebody else/);
      }));
    await t.step(
      "nothing is made in a home of somebody else",
      () =>
        withAddon(async (addon, cache) => {
          await Deno.remove(cache);
          await Deno.chown(join(cache, ".."), 12345, 12345);
          await assert.rejects(ensureAddonCopy(addon, cache), /belongs to somebody else/);
          await assert.rejects(Deno.lstat(cache), Deno.errors.NotFound);
        }),
    );
    await t.step(
      "a cache folder that its group can write to is not used",
      () =>
        withAddon(async (addon, cache) => {
          await Deno.chown(cache, null, 12345);
          await Deno.chmod(cache, 0o770);
          await assert.rejects(ensureAddonCopy(addon, cache), /can be written by others/);
        }),
    );
  },
);

Deno.test(
  "ensureAddonCopy() by many at once ends with one copy, whole at any time",
  onUnix,
  async () => {
    await withAddon(async (addon, cache) => {
      const module = JSON.stringify(import.meta.resolve("./addon.ts"));
      const code = `
      const { ensureAddonCopy } = await import(${module});
      const path = await ensureAddonCopy(${JSON.stringify(addon)}, ${JSON.stringify(cache)});
      console.log((await Deno.stat(path)).size);`;
      const outputs = await Promise.all(
        Array.from({ length: 4 }, () =>
          new Deno.Command(Deno.execPath(), {
            args: [
              "eval",
              "--quiet",
              "--config",
              join(import.meta.dirname!, "..", "deno.json"),
              code,
            ],
            env: { NO_COLOR: "1" },
          }).output()),
      );
      for (const { stdout, stderr } of outputs) {
        assert.equal(new TextDecoder().decode(stderr), "");
        assert.equal(new TextDecoder().decode(stdout), `${CONTENT.length}\n`);
      }
      const folder = join(cache, "git-annex-p2p-iroh");
      assert.deepEqual(namesIn(folder), ["iroh.linux-x64-gnu-1.2.3.node"]);
      await assertIntact(join(folder, "iroh.linux-x64-gnu-1.2.3.node"));
    });
  },
);
