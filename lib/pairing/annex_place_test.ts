import assert from "node:assert/strict";
import { join } from "node:path";
import { CommandFailed, outputIn } from "../repository/git_annex.ts";
import {
  type AnnexPlace,
  annexUuid,
  checkedBranch,
  currentBranch,
  NoAnnex,
  specialRemotes,
} from "./annex_place.ts";

const { signal } = new AbortController();

/** Makes a git repository without git-annex. */
async function makePlace(): Promise<
  AnnexPlace & { git(...args: string[]): Promise<string> } & AsyncDisposable
> {
  const folder = await Deno.makeTempDir();
  const git = (...args: string[]) => outputIn(folder, args, signal);
  await git("init", "--quiet");
  for (const key of ["name", "email"]) await git("config", `user.${key}`, "ann@example.com");
  return {
    folder,
    repository: { gitDir: join(folder, ".git") },
    git,
    async [Symbol.asyncDispose]() {
      await Deno.remove(folder, { recursive: true });
    },
  };
}

Deno.test("annexUuid() tells a repository without git-annex from one that git cannot read", async () => {
  await using place = await makePlace();
  await assert.rejects(annexUuid(place, signal), NoAnnex);
  await Deno.writeTextFile(join(place.repository.gitDir, "config"), "[damaged");
  await assert.rejects(annexUuid(place, signal), CommandFailed);
});

Deno.test("checkedBranch() takes only names that git takes for a branch", async () => {
  await using place = await makePlace();
  for (const name of ["main", "feature/x", "größe"]) {
    assert.equal(await checkedBranch(place, name, signal), name);
  }
  for (const name of ["-x", "HEAD", "a..b", "../x", "x.lock", "a b", "@{-1}", "", undefined]) {
    assert.equal(await checkedBranch(place, name, signal), undefined, name);
  }
});

Deno.test("currentBranch() returns what an adjusted branch adjusts, and nothing for a view", async () => {
  await using place = await makePlace();
  for (
    const [head, branch] of [
      ["main", "main"],
      ["adjusted/main(unlocked)", "main"],
      ["adjusted/team/x(hidemissing-unlocked)", "team/x"],
      ["views/main(tag=_)", undefined],
      ["adjusted/views/main(tag=_)(unlocked)", undefined],
    ] as const
  ) {
    await place.git("symbolic-ref", "HEAD", `refs/heads/${head}`);
    assert.equal(await currentBranch(place, signal), branch, head);
  }
});

Deno.test("specialRemotes() lists each that is not enabled, once, by its name", async () => {
  await using place = await makePlace();
  assert.deepEqual(await specialRemotes(place, "git-annex", signal), []);
  const [enabled, other] = [crypto.randomUUID(), crypto.randomUUID()];
  const log = [
    `${enabled} encryption=none name=here type=directory timestamp=1s`,
    `${other} autoenable=true encryption=none name=old type=S3 timestamp=1s`,
    `${other} encryption=none name=usb&32;stick type=directory timestamp=2s`,
    "damaged",
  ];
  await Deno.writeTextFile(
    join(place.folder, "remote.log"),
    log.map((line) => `${line}\n`).join(""),
  );
  await place.git("checkout", "--quiet", "-b", "git-annex");
  await place.git("add", "remote.log");
  await place.git("commit", "--quiet", "--message", "remotes");
  await place.git("config", "remote.mine.annex-uuid", enabled);
  assert.deepEqual(await specialRemotes(place, "git-annex", signal), ["usb stick"]);
});
