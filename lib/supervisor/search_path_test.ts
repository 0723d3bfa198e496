import assert from "node:assert/strict";
import { join } from "node:path";
import { Failure } from "../console/failure.ts";
import { chooseSearchPath } from "./search_path.ts";

const NAMES = ["sh", "git", "git-annex", "git-annex-p2p-iroh"];

/** Makes folders with modes; the first has all programs that are needed. */
async function withFolders(
  test: (folder: string, make: (name: string, mode: number) => Promise<string>) => Promise<void>,
): Promise<void> {
  const folder = await Deno.realPath(await Deno.makeTempDir());
  try {
    await test(folder, async (name, mode) => {
      const path = join(folder, name);
      await Deno.mkdir(path, { recursive: true });
      for (const name of NAMES) {
        await Deno.writeTextFile(join(path, name), "", { mode: 0o755 });
      }
      await Deno.chmod(path, mode);
      return path;
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test({
  name: "chooseSearchPath() keeps absolute folders that only the user and root can write",
  ignore: Deno.build.os === "windows",
  fn: () =>
    withFolders(async (folder, make) => {
      const mine = await make("mine", 0o755), open = await make("open", 0o777);
      const group = await make("group", 0o775), below = await make("open/below", 0o755);
      const shared = await make("shared/below", 0o755); // as below /tmp
      await Deno.chmod(join(folder, "shared"), 0o1777);
      const link = join(open, "link"), goodLink = join(mine, "link");
      await Deno.symlink(mine, link);
      await Deno.symlink(mine, goodLink);
      const folders = [mine, "", ".", "bin", open, group, below, link, goodLink, shared, mine];
      const { path, program, leftOut } = chooseSearchPath(
        [...folders, join(folder, "missing")].join(":"),
      );
      assert.deepEqual(path.split(":"), [mine, goodLink, shared]);
      assert.equal(program, join(mine, "git-annex-p2p-iroh"));
      assert.deepEqual(leftOut, [
        "the empty folder: not absolute",
        ".: not absolute",
        "bin: not absolute",
        `${open}: others can write to it`,
        `${group}: others can write to it`,
        `${below}: others can write to it (${open})`,
        `${link}: others can write to it (${open})`,
      ]);
    }),
});

Deno.test({
  name: "chooseSearchPath() says which program is in no such folder, and why",
  ignore: Deno.build.os === "windows",
  fn: () =>
    withFolders(async (folder, make) => {
      const mine = await make("mine", 0o755), open = await make("open", 0o777);
      await Deno.remove(join(mine, "git-annex"));
      await Deno.chmod(join(mine, "git"), 0o644);
      const failure = (path: string) => {
        try {
          chooseSearchPath(path);
        } catch (error) {
          assert(error instanceof Failure);
          return error.message;
        }
      };
      const words = "in no folder of PATH that only you and root can write";
      assert.equal(failure(mine), `git, git-annex: ${words}`);
      assert.equal(
        failure(`${mine}:${open}`),
        `git, git-annex: ${words}, but ${open}: others can write to it`,
      );
      assert.match(
        failure(join(folder, "missing"))!,
        /^sh, git, git-annex, git-annex-p2p-iroh: in no/,
      );
    }),
});
