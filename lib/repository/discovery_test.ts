import assert from "node:assert/strict";
import { join, resolve } from "node:path";
import { discoverGitDir } from "./discovery.ts";
import { gitEnvironment } from "./git_environment.ts";

/** Environment of git in these tests, without the user's config. */
const ENV = {
  HOME: "/nonexistent",
  PATH: Deno.env.get("PATH")!,
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_AUTHOR_NAME: "a",
  GIT_AUTHOR_EMAIL: "a@example.com",
  GIT_COMMITTER_NAME: "a",
  GIT_COMMITTER_EMAIL: "a@example.com",
};
const isRoot = Deno.build.os === "linux" && Deno.uid() === 0;
/** Any other user. */
const OTHER_UID = 12_345;

/** A folder for repositories. */
class Folder implements Disposable {
  readonly path = Deno.realPathSync(Deno.makeTempDirSync());

  /** Runs git in a subfolder, which must succeed. */
  git(subfolder: string, ...args: string[]): void {
    const { code, stderr } = run(join(this.path, subfolder), args, {});
    assert.equal(code, 0, stderr);
  }

  /** Makes a repository with one commit. @returns Its path. */
  make(name: string, ...options: string[]): string {
    this.git("", "init", "-q", ...options, name);
    this.git(name, "commit", "-q", "--allow-empty", "-m", "first");
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

function run(
  cwd: string,
  args: string[],
  env: Record<string, string>,
): { code: number; stdout: string; stderr: string } {
  const options = { args, cwd, env: { ...ENV, ...env }, clearEnv: true };
  const { code, stdout, stderr } = new Deno.Command("git", options).outputSync();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, stdout: out!, stderr: err! };
}

/** Returns what git finds, without symbolic links; undefined if it finds no repository. */
function gitFinds(cwd: string, env: Record<string, string>): string | undefined {
  const { code, stdout } = run(cwd, ["rev-parse", "--git-common-dir"], env);
  return code === 0
    ? Deno.realPathSync(resolve(Deno.realPathSync(cwd), stdout.replace(/\n$/, "")))
    : undefined;
}

function weFind(cwd: string, env: Record<string, string>): string | undefined {
  if (gitEnvironment({ ...ENV, ...env }) === undefined) return undefined;
  return discoverGitDir(Deno.realPathSync(cwd));
}

/** Checks that git is not needed, and finds the same. */
function assertFound(cwd: string, env: Record<string, string> = {}): void {
  const found = weFind(cwd, env);
  assert(found !== undefined, `git must be asked in ${cwd}`);
  assert.equal(Deno.realPathSync(found), gitFinds(cwd, env));
}

/** Checks that git is asked. @param finds What git then finds, from the folder; undefined for an error. */
function assertLeftToGit(cwd: string, finds?: string, env: Record<string, string> = {}): void {
  assert.equal(weFind(cwd, env), undefined, cwd);
  assert.equal(gitFinds(cwd, env), finds && Deno.realPathSync(finds), cwd);
}

Deno.test("discovery: usual repositories are found without git, as git finds them", () => {
  using folder = new Folder();
  const plain = folder.make("plain repository");
  Deno.mkdirSync(join(plain, "sub/folder"), { recursive: true });
  Deno.mkdirSync(join(plain, "sub/.git")); // no git directory, so git looks further up: git is asked
  assertFound(plain);
  assertFound(join(plain, "sub/folder/../.."));
  assertLeftToGit(join(plain, "sub/folder"), join(plain, ".git"));
  Deno.removeSync(join(plain, "sub/.git"));
  assertFound(join(plain, "sub/folder"));
  Deno.symlinkSync(join(plain, "sub/folder"), join(folder.path, "symlink"));
  assertFound(join(folder.path, "symlink"));

  folder.git("", "init", "-q", "unborn");
  assertFound(join(folder.path, "unborn"));
  folder.git("plain repository", "worktree", "add", "-q", "../linked", "--detach");
  folder.git("plain repository", "worktree", "add", "-q", "../second");
  Deno.mkdirSync(join(folder.path, "linked/sub"));
  for (const name of ["linked", "linked/sub", "second"]) assertFound(join(folder.path, name));

  folder.make("outer");
  const local = ["-c", "protocol.file.allow=always"];
  folder.git("outer", ...local, "submodule", "--quiet", "add", plain, "inner");
  assertFound(join(folder.path, "outer/inner"));
  folder.make("separate", "--separate-git-dir", join(folder.path, "elsewhere"));
  assertFound(join(folder.path, "separate"));
  Deno.symlinkSync(folder.path, join(folder.path, "loop"));
  Deno.writeTextFileSync(join(folder.path, "separate/.git"), "gitdir: ../loop/elsewhere\n");
  assertFound(join(folder.path, "separate"));
  assertFound(folder.make("sha256", "--object-format=sha256"));
  const moved = folder.make("moved");
  folder.git("moved", "config", "core.worktree", join(folder.path, "unborn"));
  assertFound(moved);
});

Deno.test("discovery: git is asked about everything else", () => {
  using folder = new Folder();
  assertLeftToGit(folder.path);
  const bare = join(folder.path, "bare.git"), plain = folder.make("plain");
  folder.git("", "init", "-q", "--bare", "bare.git");
  assertLeftToGit(bare, bare);
  assertLeftToGit(join(bare, "objects"), bare);
  assertLeftToGit(join(plain, ".git"), join(plain, ".git"));
  folder.make("inside");
  Deno.mkdirSync(join(folder.path, "inside/.git/annex"));
  assertLeftToGit(join(folder.path, "inside/.git/annex"), join(folder.path, "inside/.git"));

  const linked = join(folder.path, "symbolic link");
  Deno.mkdirSync(linked);
  Deno.symlinkSync(join(plain, ".git"), join(linked, ".git"));
  assertLeftToGit(linked, join(plain, ".git"));
  const file = join(folder.path, "file");
  Deno.mkdirSync(file);
  const withMark = "\ufeffgitdir: ../plain/.git\n";
  for (const text of ["gitdir: ../nowhere\n", "gitdir:\n", "no git file", withMark, ""]) {
    Deno.writeTextFileSync(join(file, ".git"), text);
    assertLeftToGit(file);
  }
  Deno.symlinkSync(join(plain, ".git", "refs"), join(folder.path, "refs"));
  Deno.writeTextFileSync(join(file, ".git"), "gitdir: ../refs/../\n"); // beyond the symbolic link
  assertLeftToGit(file, join(plain, ".git"));

  for (const [name, text] of [["HEAD", "nonsense"], ["HEAD", "ref: elsewhere/main"]] as const) {
    const broken = folder.make(`broken by ${text}`);
    Deno.writeTextFileSync(join(broken, ".git", name), text);
    assertLeftToGit(broken);
  }
  const old = folder.make("symbolic HEAD");
  Deno.removeSync(join(old, ".git/HEAD"));
  Deno.symlinkSync("refs/heads/main", join(old, ".git/HEAD"));
  assertLeftToGit(old, join(old, ".git"));
});

Deno.test("discovery: git is asked if its environment is unusual", () => {
  using folder = new Folder();
  const plain = folder.make("plain"), other = folder.make("other"), gitDir = join(plain, ".git");
  Deno.mkdirSync(join(plain, "sub"));
  assertLeftToGit(join(plain, "sub"), undefined, { GIT_CEILING_DIRECTORIES: plain });
  assertLeftToGit(plain, join(other, ".git"), { GIT_DIR: join(other, ".git") });
  assertLeftToGit(plain, gitDir, { GIT_DISCOVERY_ACROSS_FILESYSTEM: "1" });
  assertLeftToGit(plain, gitDir, {
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "p2p-iroh.lan",
    GIT_CONFIG_VALUE_0: "false",
  });
  assertLeftToGit(plain, gitDir, { GIT_CONFIG_PARAMETERS: "'p2p-iroh.lan'='false'" });
  assertLeftToGit(plain, undefined, { GIT_OBJECT_DIRECTORY: "/nonexistent" });
  assertLeftToGit(plain, undefined, { GIT_TEST_ASSUME_DIFFERENT_OWNER: "1" });
  // What git and git-annex set for the programs that they start.
  const usual = { GIT_EXEC_PATH: "/usr/lib/git-core", GIT_LITERAL_PATHSPECS: "1" };
  assertFound(plain, { ...usual, GIT_SSH_COMMAND: "ssh", GIT_TRACE2: "0", GIT_ANNEX_X: "1" });
});

Deno.test("gitEnvironment differs if git may read other config files", () => {
  const usual = { HOME: "/home/a", PATH: ENV.PATH };
  const text = gitEnvironment(usual);
  assert(text !== undefined);
  assert.equal(gitEnvironment({ ...usual, EDITOR: "vi" }), text);
  for (const name of ["HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM"]) {
    assert.notEqual(gitEnvironment({ ...usual, [name]: "/elsewhere" }), text, name);
  }
  for (const name of ["XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"]) {
    assert.equal(gitEnvironment({ ...usual, [name]: "relative" }), undefined, name);
    assert(gitEnvironment({ ...usual, [name]: "" }) !== undefined, name);
  }
  using folder = new Folder();
  Deno.writeTextFileSync(join(folder.path, "git"), "#!/bin/sh\n", { mode: 0o755 });
  const other = gitEnvironment({ ...usual, PATH: `${folder.path}:${ENV.PATH}` });
  assert(other !== undefined && other !== text);
  assert.equal(gitEnvironment({ ...usual, PATH: `.:${ENV.PATH}` }), undefined);
  assert.equal(gitEnvironment({ ...usual, PATH: "/nonexistent" }), undefined);
  assert.equal(gitEnvironment({ PATH: ENV.PATH }), undefined);
});

Deno.test({
  name: "discovery: git is asked about what belongs to another user (CVE-2022-24765)",
  ignore: !isRoot,
  fn() {
    using folder = new Folder();
    for (const part of ["", ".git", ".git/objects", ".git/HEAD"]) {
      const path = folder.make(`other ${part.replace("/", " ")}`);
      Deno.chownSync(join(path, part), OTHER_UID, OTHER_UID);
      // git looks at the folder and at .git, and this program also at what is inside.
      assertLeftToGit(path, part.includes("/") ? join(path, ".git") : undefined);
    }
    const separate = folder.make("separate", "--separate-git-dir", join(folder.path, "elsewhere"));
    Deno.chownSync(join(folder.path, "elsewhere"), OTHER_UID, OTHER_UID);
    assertLeftToGit(separate);
    Deno.chownSync(join(folder.path, "elsewhere"), 0, 0);
    assertFound(separate);
    Deno.chownSync(join(separate, ".git"), OTHER_UID, OTHER_UID);
    assertLeftToGit(separate);
    // Another user's repository above the current directory.
    const shared = folder.make("shared");
    Deno.mkdirSync(join(shared, "mine"));
    for (const path of [shared, join(shared, ".git")]) Deno.chownSync(path, OTHER_UID, OTHER_UID);
    assertLeftToGit(join(shared, "mine"));
  },
});

Deno.test({
  name: "discovery: git is asked at the border of a file system",
  ignore: !isRoot,
  fn() {
    using folder = new Folder();
    const path = folder.make("plain"), mounted = join(path, "mounted");
    Deno.mkdirSync(mounted);
    const module = JSON.stringify(new URL("./discovery.ts", import.meta.url).href);
    const code = `const { discoverGitDir } = await import(${module}); ` +
      `console.log(discoverGitDir(${JSON.stringify(path)}), discoverGitDir(Deno.cwd()));`;
    const script = `mount -t tmpfs tmpfs "$0" && cd "$0" && "$1" eval '${code}' && ` +
      "! git rev-parse --git-common-dir 2> /dev/null";
    const args = ["--mount", "sh", "-c", script, mounted, Deno.execPath()];
    const { code: status, stdout } = new Deno.Command("unshare", { args }).outputSync();
    assert.equal(new TextDecoder().decode(stdout), `${path}/.git undefined\n`);
    assert.equal(status, 0);
  },
});
