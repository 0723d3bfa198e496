import assert from "node:assert/strict";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { named } from "../../tests/testenv.ts";
import { UNPRIVILEGED, UNPRIVILEGED_TOOLS } from "../../tests/users.ts";
import { CacheFolderError, ensureAddonCopy } from "./addon_cache.ts";
import { packAddon, PackedAddon } from "./packed_addon.ts";

const onUnix = { ignore: Deno.build.os === "windows" };
/** Content of the addon: longer than one read, and not a multiple of its length. */
const CONTENT = new Uint8Array(600_000).map((_, i) => i >> 8 ^ i);
const NAME = `iroh-${crc32(CONTENT).toString(16).padStart(8, "0")}.node`;
const DAY_MS = 24 * 60 * 60_000;

/** Calls `body` with a packed addon, a cache folder, and the path of the packed file. */
async function withAddon(
  body: (packed: PackedAddon, cache: string, path: string) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "addon.packed"), cache = join(dir, "cache");
    await Deno.writeFile(path, packAddon(CONTENT));
    await Deno.mkdir(cache, { mode: 0o700 });
    await body(new PackedAddon(path), cache, path);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Makes a file look as if it was last used some days ago. */
async function age(path: string, days: number): Promise<void> {
  const then = new Date(Date.now() - days * DAY_MS);
  await Deno.utime(path, then, then);
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

/** Makes a copy in another process. @returns `true` if it is intact, or the error. */
async function inAnotherProcess(
  path: string,
  cache: string,
  prefix: readonly string[] = [],
): Promise<string> {
  const modules = ["./addon_cache.ts", "./packed_addon.ts"].map((name) =>
    import.meta.resolve(name)
  );
  const code = `
    const { ensureAddonCopy } = await import(${JSON.stringify(modules[0])});
    const { PackedAddon } = await import(${JSON.stringify(modules[1])});
    const packed = new PackedAddon(${JSON.stringify(path)});
    try {
      const copy = await ensureAddonCopy(packed, ${JSON.stringify(cache)});
      console.log(packed.isIn(copy));
    } catch (error) {
      console.log(error.name + ": " + error.message);
    }`;
  const config = join(import.meta.dirname!, "..", "..", "deno.json");
  const command = [...prefix, Deno.execPath(), "eval", "--quiet", "--config", config, code];
  const { stdout, stderr } = await new Deno.Command(command[0]!, {
    args: command.slice(1),
    env: { NO_COLOR: "1" },
  }).output();
  assert.equal(new TextDecoder().decode(stderr), "");
  return new TextDecoder().decode(stdout);
}

Deno.test("ensureAddonCopy() makes a copy that no other user can open", onUnix, async () => {
  await withAddon(async (packed, cache) => {
    const path = await ensureAddonCopy(packed, cache);
    assert.equal(path, join(cache, "git-annex-p2p-iroh", NAME));
    await assertIntact(path);
    assert.equal((await Deno.stat(join(path, ".."))).mode! & 0o777, 0o700);
  });
});

Deno.test("ensureAddonCopy() makes the cache folder if it is missing", onUnix, async () => {
  await withAddon(async (packed, cache) => {
    await Deno.remove(cache);
    await Deno.chmod(join(cache, ".."), 0o755);
    await assertIntact(await ensureAddonCopy(packed, cache));
    assert.equal((await Deno.stat(cache)).mode! & 0o777, 0o700);
  });
});

Deno.test("ensureAddonCopy() keeps an intact copy", onUnix, async () => {
  await withAddon(async (packed, cache) => {
    const path = await ensureAddonCopy(packed, cache);
    const { ino } = await Deno.stat(path);
    assert.equal(await ensureAddonCopy(packed, cache), path);
    assert.equal((await Deno.stat(path)).ino, ino);
  });
});

Deno.test("ensureAddonCopy() replaces a copy that is damaged or not private", onUnix, async (t) => {
  const spoilings: Record<string, (path: string) => Promise<void>> = {
    "damaged in its last byte": async (path) => {
      const content = CONTENT.slice();
      content[content.length - 1]! ^= 1;
      await Deno.writeFile(path, content);
    },
    "truncated": (path) => Deno.truncate(path, 2 * 256 * 1024),
    "empty": (path) => Deno.truncate(path, 0),
    "too long": (path) => Deno.writeFile(path, new Uint8Array(1), { append: true }),
    "writable by the group": (path) => Deno.chmod(path, 0o660),
    "readable by others": (path) => Deno.chmod(path, 0o604),
    "a link": async (path) => {
      await Deno.rename(path, `${path}.away`);
      await Deno.symlink(`${path}.away`, path);
    },
    "a link to nothing": async (path) => {
      await Deno.remove(path);
      await Deno.symlink("nothing", path);
    },
  };
  for (const [name, spoil] of Object.entries(spoilings)) {
    await t.step(name, () =>
      withAddon(async (packed, cache) => {
        const path = await ensureAddonCopy(packed, cache);
        await spoil(path);
        assert.equal(await ensureAddonCopy(packed, cache), path);
        await assertIntact(path);
      }));
  }
});

Deno.test("ensureAddonCopy() records once a day that a copy is used", onUnix, async () => {
  await withAddon(async (packed, cache) => {
    const path = await ensureAddonCopy(packed, cache);
    for (const [days, isRecorded] of [[40, true], [0.5, false]] as const) {
      await age(path, days);
      await ensureAddonCopy(packed, cache);
      const ago = Date.now() - (await Deno.stat(path)).mtime!.getTime();
      assert.equal(ago < DAY_MS / 4, isRecorded);
      await assertIntact(path);
    }
  });
});

Deno.test("ensureAddonCopy() removes other versions' unused copies, and nothing else", async () => {
  await withAddon(async (packed, cache) => {
    const folder = join(await ensureAddonCopy(packed, cache), "..");
    const old = ["iroh-01234567.node", "log", "iroh-01234567.node.txt", "iroh.linux-x64-gnu.node"];
    const used = "iroh-89abcdef.node";
    for (const name of [...old, used]) {
      await Deno.writeTextFile(join(folder, name), "");
      await age(join(folder, name), name === used ? 29 : 31);
    }
    await ensureAddonCopy(packed, cache); // intact: it makes no copy and removes none
    assert.equal(namesIn(folder).length, 6);
    await Deno.remove(join(folder, NAME));
    await ensureAddonCopy(packed, cache);
    assert.deepEqual(namesIn(folder), [NAME, used, ...old.slice(1)].sort());
  });
});

Deno.test("ensureAddonCopy() leaves the copy to another process that is writing it", async () => {
  await withAddon(async (packed, cache) => {
    const folder = join(await ensureAddonCopy(packed, cache), ".."), other = join(folder, ".new-1");
    await Deno.remove(join(folder, NAME));
    await Deno.writeTextFile(other, "half");
    await assert.rejects(ensureAddonCopy(packed, cache), /another process is making the copy/);
    await age(other, 1); // so the other process was killed
    await ensureAddonCopy(packed, cache);
    assert.deepEqual(namesIn(folder), [NAME]);
  });
});

Deno.test("ensureAddonCopy() uses no folder that other users can change", onUnix, async (t) => {
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
    "inside one that others can write to": [
      (cache) => Deno.chmod(cache, 0o777),
      /cache can be written by others/,
    ],
    "missing inside one that others can write to": [
      async (cache) => {
        await Deno.chmod(join(cache, ".."), 0o777);
        await Deno.remove(cache);
      },
      /can be written by others/,
    ],
  };
  for (const [name, [spoil, message]] of Object.entries(spoilings)) {
    await t.step(name, () =>
      withAddon(async (packed, cache) => {
        await spoil(cache);
        await assert.rejects(ensureAddonCopy(packed, cache), (error: CacheFolderError) => {
          assert(error instanceof CacheFolderError);
          assert.match(error.message, message);
          return true;
        });
      }));
  }
  await t.step("unknown", () =>
    withAddon(async (packed) => {
      await assert.rejects(ensureAddonCopy(packed, undefined), CacheFolderError);
      await assert.rejects(ensureAddonCopy(packed, "relative"), CacheFolderError);
    }));
});

Deno.test(
  "ensureAddonCopy() uses a cache folder that the user's own group can write to",
  onUnix,
  async () => {
    await withAddon(async (packed, cache) => {
      await Deno.chmod(cache, 0o775);
      await assertIntact(await ensureAddonCopy(packed, cache));
    });
  },
);

const UNWRITABLE = "ensureAddonCopy() fails if it cannot write, and leaves nothing";
Deno.test(named(UNWRITABLE, ...UNPRIVILEGED_TOOLS), async () => {
  await withAddon(async (_, cache, path) => {
    const folder = join(cache, "git-annex-p2p-iroh");
    await Deno.mkdir(folder, { mode: 0o500 });
    assert.match(await inAnotherProcess(path, cache, UNPRIVILEGED), /^PermissionDenied: /);
    assert.deepEqual(namesIn(folder), []);
  });
});

const UNREADABLE = "ensureAddonCopy() replaces a copy that it cannot read";
Deno.test(named(UNREADABLE, ...UNPRIVILEGED_TOOLS), async () => {
  await withAddon(async (packed, cache, path) => {
    const copy = await ensureAddonCopy(packed, cache);
    await Deno.chmod(copy, 0);
    assert.equal(await inAnotherProcess(path, cache, UNPRIVILEGED), "true\n");
    await assertIntact(copy);
  });
});

Deno.test(
  "ensureAddonCopy() leaves nothing if a folder has the name of the copy",
  onUnix,
  async () => {
    await withAddon(async (packed, cache) => {
      const folder = join(cache, "git-annex-p2p-iroh");
      await Deno.mkdir(folder, { mode: 0o700 });
      await Deno.mkdir(join(folder, NAME, "something"), { recursive: true });
      await assert.rejects(ensureAddonCopy(packed, cache), /directory/);
      assert.deepEqual(namesIn(folder), [NAME]);
      assert.deepEqual(namesIn(join(folder, NAME)), ["something"]);
    });
  },
);

Deno.test(
  named("ensureAddonCopy() trusts nothing that belongs to another user", "users"),
  async (t) => {
    await t.step("its copy is replaced", () =>
      withAddon(async (packed, cache) => {
        const path = await ensureAddonCopy(packed, cache);
        await Deno.chown(path, 12345, 12345);
        await ensureAddonCopy(packed, cache);
        await assertIntact(path);
      }));
    await t.step("its folder is not used", () =>
      withAddon(async (packed, cache) => {
        const path = await ensureAddonCopy(packed, cache);
        await Deno.chown(join(path, ".."), 12345, 12345);
        await assert.rejects(ensureAddonCopy(packed, cache), /belongs to another user/);
      }));
    await t.step(
      "nothing is made in its home",
      () =>
        withAddon(async (packed, cache) => {
          await Deno.remove(cache);
          await Deno.chown(join(cache, ".."), 12345, 12345);
          await assert.rejects(ensureAddonCopy(packed, cache), /belongs to another user/);
          await assert.rejects(Deno.lstat(cache), Deno.errors.NotFound);
        }),
    );
    await t.step(
      "a cache folder that its group can write to is not used",
      () =>
        withAddon(async (packed, cache) => {
          await Deno.chown(cache, null, 12345);
          await Deno.chmod(cache, 0o770);
          await assert.rejects(ensureAddonCopy(packed, cache), /can be written by others/);
        }),
    );
  },
);

Deno.test(
  "ensureAddonCopy() by many processes at once ends with one copy",
  onUnix,
  async () => {
    await withAddon(async (_, cache, path) => {
      const said = await Promise.all(
        Array.from({ length: 4 }, () => inAnotherProcess(path, cache)),
      );
      for (const line of said) {
        assert.match(line, /^(true|CacheFolderError: another process is making the copy)\n$/);
      }
      const folder = join(cache, "git-annex-p2p-iroh");
      assert.deepEqual(namesIn(folder), [NAME]);
      await assertIntact(join(folder, NAME));
    });
  },
);
