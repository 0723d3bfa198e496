import assert from "node:assert/strict";
import { join } from "node:path";
import { named } from "../../tests/testenv.ts";
import {
  candidatePaths,
  ensureRuntimeFolder,
  RuntimeFolderError,
  runtimeFolders,
} from "./runtime_folder.ts";
import { withFolder } from "../../tests/temporary_folder.ts";

const onUnix = { ignore: Deno.build.os === "windows" };

/** Returns the candidates of user 7 with these variables. */
function candidates(values: Record<string, string>): string[] {
  return candidatePaths((name) => values[name], 7).filter((path) => !path.startsWith("/run/user"));
}

Deno.test("candidatePaths() prefers XDG_RUNTIME_DIR if it is an absolute path", onUnix, () => {
  const own = "/tmp/git-annex-p2p-iroh-7";
  assert.deepEqual(candidates({ XDG_RUNTIME_DIR: "/run/me" }), ["/run/me/git-annex-p2p-iroh", own]);
  for (const XDG_RUNTIME_DIR of ["relative", ""]) {
    assert.deepEqual(candidates({ XDG_RUNTIME_DIR }), [own]);
  }
});

Deno.test(
  "candidatePaths() has a folder that needs no variable, and one that no user can take",
  onUnix,
  () => {
    assert.deepEqual(
      candidates({ TMPDIR: "/scratch", HOME: "/home/ann", XDG_CACHE_HOME: "/cache" }),
      [
        "/scratch/git-annex-p2p-iroh-7",
        "/tmp/git-annex-p2p-iroh-7",
        "/cache/git-annex-p2p-iroh",
      ],
    );
    if (Deno.build.os !== "linux") return;
    assert(candidatePaths(() => undefined, 7).includes("/run/user/7/git-annex-p2p-iroh"));
  },
);

Deno.test("candidatePaths() has no folder whose path is too long for a socket", onUnix, () => {
  const most = Deno.build.os === "linux" ? 107 : 103;
  const rest = "/git-annex-p2p-iroh/0123456789ab.control".length;
  const fitting = `/${"x".repeat(most - rest - 1)}`;
  assert.equal(candidates({ XDG_RUNTIME_DIR: fitting })[0], `${fitting}/git-annex-p2p-iroh`);
  assert.equal(candidates({ XDG_RUNTIME_DIR: `${fitting}x` }).length, 1);
  assert.equal(candidates({ TMPDIR: `/${"é".repeat(40)}` }).length, 1); // 2 bytes a letter
});

Deno.test("ensureRuntimeFolder() makes a folder that no other user can open", onUnix, async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "made");
    assert.equal(await ensureRuntimeFolder([path]), path);
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o700);
    assert.equal(await ensureRuntimeFolder([path]), path);
  });
});

Deno.test(
  "ensureRuntimeFolder() uses no folder that another user could have planted",
  onUnix,
  async () => {
    await withFolder(async (dir) => {
      const open = join(dir, "open"), link = join(dir, "link"), file = join(dir, "file");
      await Deno.mkdir(open);
      await Deno.chmod(open, 0o770);
      await Deno.mkdir(join(dir, "target"), { mode: 0o700 });
      await Deno.symlink(join(dir, "target"), link);
      await Deno.writeTextFile(file, "");
      const missing = join(dir, "no", "such");
      await assert.rejects(
        ensureRuntimeFolder([open, link, file, missing]),
        (error: RuntimeFolderError) => {
          assert(error instanceof RuntimeFolderError);
          assert.match(
            error.message,
            /open is open to others.*link is not a folder.*file is not a folder.*such: no such file/,
          );
          return true;
        },
      );
      assert.deepEqual(runtimeFolders([open, link, file, missing]), []);
      const fine = join(dir, "fine");
      assert.equal(await ensureRuntimeFolder([open, fine]), fine);
      assert.deepEqual(runtimeFolders([open, fine]), [fine]);
    });
  },
);

Deno.test(
  "ensureRuntimeFolder() uses no folder with any permission for others",
  onUnix,
  async () => {
    await withFolder(async (dir) => {
      const path = join(dir, "folder");
      await Deno.mkdir(path);
      for (const mode of [0o740, 0o720, 0o710, 0o704, 0o702, 0o701, 0o750, 0o755, 0o711]) {
        await Deno.chmod(path, mode);
        const open = { message: /folder is open to others/ };
        await assert.rejects(ensureRuntimeFolder([path]), open, mode.toString(8));
        assert.deepEqual(runtimeFolders([path]), []);
      }
      await Deno.chmod(path, 0o700);
      assert.deepEqual(runtimeFolders([path]), [path]);
    });
  },
);

Deno.test(
  named("ensureRuntimeFolder() uses no folder of another user", "users"),
  async () => {
    await withFolder(async (dir) => {
      const path = join(dir, "theirs");
      await Deno.mkdir(path, { mode: 0o700 });
      await Deno.chown(path, 12345, 12345);
      await assert.rejects(ensureRuntimeFolder([path]), { message: /belongs to another user/ });
    });
  },
);
