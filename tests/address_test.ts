/** A repository's identity, from whichever of its folders the program is started. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { makeRepository } from "./pair.ts";
import { type Host, scenario, type TestEnv } from "./testenv.ts";
import { UNPRIVILEGED, UNPRIVILEGED_TOOLS } from "./users.ts";

async function address(env: TestEnv, on: Host, cwd: string): Promise<string> {
  const text = await env.ok(["git-annex-p2p-iroh", "address"], { on, cwd });
  assert.match(text, /^endpoint[a-z2-7]+\n$/);
  return text.trim();
}

scenario("address is the same from every folder of a repository", {}, async (env) => {
  const on = await env.host("a");
  const repository = await makeRepository(env, on, "with spaces, ümlauts & 日本");
  const first = await address(env, on, repository);
  await Deno.mkdir(join(repository, "sub", "folder"), { recursive: true });
  for (const folder of ["sub", "sub/folder", ".git", ".git/annex"]) {
    assert.equal(await address(env, on, join(repository, folder)), first, folder);
  }
  const creds = join(repository, ".git", "annex", "creds");
  assert.equal((await Deno.stat(join(creds, "iroh-secret"))).mode! & 0o777, 0o600);
  assert.equal((await Deno.stat(creds)).mode! & 0o777, 0o700);
});

scenario(
  "address works in a bare repository, and is shared by linked work trees",
  {},
  async (env) => {
    const on = await env.host("a");
    const bare = join(on.dir, "bare.git");
    await env.ok(["git", "init", "-q", "--bare", bare], { on });
    const ofBare = await address(env, on, bare);
    assert((await Deno.stat(join(bare, "annex", "creds", "iroh-secret"))).isFile);

    const main = await makeRepository(env, on, "main");
    await env.ok(["git", "commit", "-q", "--allow-empty", "-m", "one"], { on, cwd: main });
    const linked = join(on.dir, "linked");
    await env.ok(["git", "worktree", "add", "-q", linked], { on, cwd: main });
    const ofLinked = await address(env, on, linked); // made there, and stored in the repository
    assert.equal(await address(env, on, main), ofLinked);
    assert.notEqual(ofLinked, ofBare);
  },
);

scenario("address: a submodule has an address of its own", {}, async (env) => {
  const on = await env.host("a");
  const inner = await makeRepository(env, on, "inner"),
    outer = await makeRepository(env, on, "outer");
  await env.ok(["git", "commit", "-q", "--allow-empty", "-m", "one"], { on, cwd: inner });
  const add = [
    "git",
    "-c",
    "protocol.file.allow=always",
    "submodule",
    "--quiet",
    "add",
    inner,
    "module",
  ];
  await env.ok(add, { on, cwd: outer });
  const ofModule = await address(env, on, join(outer, "module"));
  assert.notEqual(await address(env, on, outer), ofModule);
  assert((await Deno.stat(join(outer, ".git/modules/module/annex/creds/iroh-secret"))).isFile);
});

scenario("address: eight first runs at once agree on one address", {}, async (env) => {
  const on = await env.host("a");
  const repository = await makeRepository(env, on, "repository");
  const runs = Array.from({ length: 8 }, () => address(env, on, repository));
  assert.equal(new Set(await Promise.all(runs)).size, 1);
});

scenario(
  "address names the first relay that was set when it was made, and stays the same",
  {},
  async (env) => {
    const on = await env.host("a");
    const repository = await makeRepository(env, on, "repository");
    const relay = { GIT_ANNEX_P2P_IROH_RELAY: "https://one.example https://two.example" };
    const first = (await env.iroh(["address"], { on, cwd: repository, env: relay })).stdout.trim();
    assert.deepEqual(decodeTicket(first).relays, ["https://one.example/"]);
    assert.equal(await address(env, on, repository), first);
  },
);

scenario("address is the one dumbpipe gives for the same key, in hex and in base32", {
  needs: ["dumbpipe"],
}, async (env) => {
  const on = await env.host("a");
  for (
    const key of [
      "0123456789abcdef".repeat(4),
      "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLHRGV433YBENCWPCNLZXXQ",
    ]
  ) {
    const repository = await makeRepository(env, on, `repository-${key.length}`);
    const creds = join(repository, ".git", "annex", "creds");
    await Deno.mkdir(creds, { recursive: true });
    await Deno.writeTextFile(join(creds, "iroh-secret"), key);
    const dumbpipe = await env.run(["dumbpipe", "generate-ticket"], {
      on,
      env: { IROH_SECRET: key },
    });
    assert.equal(await address(env, on, repository), dumbpipe.stdout.trim());
  }
});

scenario("address says what is wrong, in one line, and changes nothing", {}, async (env) => {
  const on = await env.host("a");
  const repository = await makeRepository(env, on, "repository");
  const secret = join(repository, ".git", "annex", "creds", "iroh-secret");
  await Deno.mkdir(join(secret, ".."), { recursive: true });
  await Deno.writeTextFile(secret, "not a key\n");
  const damaged = await env.iroh(["address"], { on, cwd: repository });
  assert.equal(damaged.code, 1);
  assert.match(
    damaged.stderr,
    /^git-annex-p2p-iroh: the identity file \S+iroh-secret is damaged, .*; restore it from a backup.*\n$/,
  );
  assert.equal(await Deno.readTextFile(secret), "not a key\n");

  const outside = await env.iroh(["address"], { on, cwd: on.dir });
  assert.equal(outside.code, 1);
  assert.match(outside.stderr, /^git-annex-p2p-iroh: this is not a git repository; .*\n$/);

  const program = join(on.dir, "bin", "git-annex-p2p-iroh");
  const noGit = await env.run([program, "address"], {
    on,
    cwd: repository,
    env: { PATH: "/nonexistent" },
  });
  assert.equal(noGit.code, 1);
  assert.match(noGit.stderr, /^git-annex-p2p-iroh: git is not on PATH; install git.*\n$/);
});

scenario("address reports an identity that it may not read, and leaves it alone", {
  needs: UNPRIVILEGED_TOOLS,
}, async (env) => {
  const on = await env.host("a");
  const repository = await makeRepository(env, on, "repository");
  const first = await address(env, on, repository);
  const secret = join(repository, ".git", "annex", "creds", "iroh-secret");
  await Deno.chmod(secret, 0);
  const run = await env.run([...UNPRIVILEGED, "git-annex-p2p-iroh", "address"], {
    on,
    cwd: repository,
  });
  assert.equal(run.code, 1);
  assert.match(
    run.stderr,
    /^git-annex-p2p-iroh: cannot read the identity file .*, permission denied; run this as the user who owns it, or correct its owner and mode \(0600\)\n$/,
  );
  await Deno.chmod(secret, 0o600);
  assert.equal(await address(env, on, repository), first);
});

/** Size of a small file on a tmpfs. */
const PAGE_BYTES = 4096;

/** Makes a repository on a disk of its own, which another file fills. */
async function makeFullDisk(
  env: TestEnv,
): Promise<{ on: Host; repository: string; full: string }> {
  const on = await env.host("a");
  const disk = join(on.dir, "disk"), repository = join(disk, "repository");
  await Deno.mkdir(disk);
  await env.ok(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]);
  env.cleanup(async () => void await env.run(["umount", disk]));
  await env.ok(["git", "init", "-q", repository], { on });
  await env.run(["sh", "-c", `cat /dev/zero >${disk}/full`]); // ends when the disk is full
  return { on, repository, full: join(disk, "full") };
}

scenario(
  "address leaves nothing half-written when the disk is full",
  { needs: ["namespaces"] },
  async (env) => {
    const { on, repository, full } = await makeFullDisk(env);
    const run = await env.iroh(["address"], { on, cwd: repository });
    assert.equal(run.code, 1);
    assert.equal(run.stdout, "");
    assert.match(
      run.stderr,
      /^git-annex-p2p-iroh: cannot write .*, no space left on device; make room.*\n$/,
    );
    const creds = join(repository, ".git", "annex", "creds");
    const left = await Array.fromAsync(Deno.readDir(creds)).catch(() => []);
    assert.deepEqual(left, []);
    await Deno.remove(full);
    await address(env, on, repository);
  },
);

scenario(
  "address leaves nothing half-written when there is room for only one of its two files",
  { needs: ["namespaces"] },
  async (env) => {
    const { on, repository, full } = await makeFullDisk(env);
    const creds = join(repository, ".git", "annex", "creds");
    await Deno.mkdir(creds, { recursive: true, mode: 0o700 });
    await Deno.truncate(full, (await Deno.stat(full)).size - PAGE_BYTES);
    const run = await env.iroh(["address"], { on, cwd: repository });
    assert.deepEqual([run.code, run.stdout], [1, ""]);
    // The program had written the address before.
    assert.match(
      run.stderr,
      /^git-annex-p2p-iroh: cannot write the identity file \S+, no space left on device; make room.*\n$/,
    );
    assert.deepEqual(await Array.fromAsync(Deno.readDir(creds)), []);
    await Deno.remove(full);
    await address(env, on, repository);
  },
);
