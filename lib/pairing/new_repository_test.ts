import assert from "node:assert/strict";
import { join } from "node:path";
import { named } from "../../tests/testenv.ts";
import { outputIn } from "../repository/git_annex.ts";
import { folderState, keepRepository, makeRepository, removeRepository } from "./new_repository.ts";

const { signal } = new AbortController();

async function isThere(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

Deno.test({
  ...named("a repository that join has begun is removed, and nothing else", "git-annex"),
  fn: async () => {
    const root = await Deno.makeTempDir();
    try {
      const [made, empty, used] = ["made", "empty", "used"].map((name) => join(root, name));
      for (const folder of [empty!, used!]) await Deno.mkdir(folder);
      await Deno.writeTextFile(join(used!, "file"), "text");
      assert.equal(await folderState(used!, signal), "used");
      assert.equal(await removeRepository(used!, signal), "not-begun");
      await assert.rejects(folderState(join(used!, "file"), signal), /cannot use /);

      for (const folder of [made!, empty!]) {
        assert.equal(await folderState(folder, signal), "free");
        await makeRepository(folder, signal);
        await makeRepository(folder, signal); // as after an interruption
        assert.equal(await folderState(folder, signal), "begun");
        assert.equal(await removeRepository(folder, signal), "removed");
      }
      assert.deepEqual([await isThere(made!), await isThere(empty!)], [false, true]);

      // One that is linked stays, though nothing is fetched yet.
      await makeRepository(made!, signal);
      await outputIn(made!, ["remote", "add", "bob", "/nowhere"], signal);
      assert.equal(await folderState(made!, signal), "begun");
      assert.equal(await removeRepository(made!, signal), "kept");
      await outputIn(made!, ["remote", "remove", "bob"], signal);
      assert.equal(await removeRepository(made!, signal), "removed");

      // What the user has told git-annex is on its branch alone.
      await makeRepository(made!, signal);
      await outputIn(made!, ["annex", "group", "here", "archive", "--quiet"], signal);
      assert.equal(await removeRepository(made!, signal), "kept");
      await outputIn(made!, ["update-ref", "-d", "refs/heads/git-annex"], signal);
      assert.equal(await removeRepository(made!, signal), "removed");

      // Files of the user stay, and so does a repository in which the user has worked.
      await makeRepository(made!, signal);
      await Deno.writeTextFile(join(made!, "mine"), "text");
      assert.equal(await removeRepository(made!, signal), "removed");
      assert.deepEqual((await Array.fromAsync(Deno.readDir(made!))).map(({ name }) => name), [
        "mine",
      ]);
      await makeRepository(empty!, signal);
      const git = (...args: string[]) => outputIn(empty!, args, signal);
      await Deno.writeTextFile(join(empty!, "mine"), "text");
      await git("add", "mine");
      await Deno.remove(join(empty!, "mine"));
      assert.equal(await removeRepository(empty!, signal), "kept");
      await git("rm", "-q", "--cached", "mine");
      const identity = ["-c", "user.name=ann", "-c", "user.email=ann@example.com"];
      const commit = [...identity, "commit", "-q", "--allow-empty", "-m", "x"];
      await git("checkout", "-q", "--orphan", "other");
      await git(...commit);
      await git("checkout", "-q", "--orphan", "unborn");
      assert.equal(await removeRepository(empty!, signal), "kept");
      await git("tag", "mine", "other");
      await git("branch", "-q", "-D", "other");
      assert.equal(await removeRepository(empty!, signal), "kept");
      await git(...commit);
      assert.equal(await removeRepository(empty!, signal), "kept");
      assert.equal(await folderState(empty!, signal), "used");
      await keepRepository(empty!);
      assert.equal(await folderState(empty!, signal), "used");
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
});
