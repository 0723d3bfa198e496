/** The compiled program, and the copy of iroh's native addon that it keeps. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { type Host, type Run, scenario, type TestEnv } from "./testenv.ts";

/** Returns the path of the addon's copy in the cache folder of a host's user, which holds nothing else. */
async function copyOf(on: Host): Promise<string> {
  const folder = join(on.env.XDG_CACHE_HOME!, "git-annex-p2p-iroh");
  const names = await namesIn(folder);
  assert.equal(names.length, 1, names.join(" "));
  assert.match(names[0]!, /^iroh-[0-9a-f]{8}\.node$/);
  return join(folder, names[0]!);
}

async function namesIn(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
}

async function makeAddress(env: TestEnv, on: Host): Promise<string> {
  await env.ok(["git", "init", "-q", "repository"], { on });
  const run = await env.iroh(["address"], { on, cwd: join(on.dir, "repository") });
  return run.stdout.trim();
}

/** Dials a peer to which no route is known, so that the program loads iroh and does nothing else. */
async function dial(
  env: TestEnv,
  on: Host,
  address: string,
  variables: Record<string, string> = {},
): Promise<Run> {
  const debug = { GIT_ANNEX_P2P_IROH_LOG: "debug", ...variables };
  const run = await env.iroh([address], { on, env: debug, stdin: "" });
  assert.match(run.stderr, /no route to it is known/);
  return run;
}

scenario("the program unpacks iroh's addon once, to the user's cache folder", {
  needs: ["compiled"],
}, async (env) => {
  const on = await env.host("a"), address = await makeAddress(env, on);
  await Promise.all([1, 2, 3].map(() => dial(env, on, address)));
  const copy = await copyOf(on), { ino, mode, size } = await Deno.lstat(copy);
  assert.equal(mode! & 0o777, 0o600);
  assert(size > 1_000_000);
  // The variable is for iroh's own package, which the program does not contain.
  const { stderr } = await dial(env, on, address, { NAPI_RS_NATIVE_LIBRARY_PATH: "/no/such" });
  assert.doesNotMatch(stderr, /unpacked/);
  assert.equal((await Deno.lstat(await copyOf(on))).ino, ino);
  assert.deepEqual(await namesIn(on.env.TMPDIR!), []);
});

scenario("the program replaces a damaged copy of iroh's addon, and never loads it", {
  needs: ["compiled"],
}, async (env) => {
  const on = await env.host("a"), address = await makeAddress(env, on);
  await dial(env, on, address);
  const copy = await copyOf(on), content = await Deno.readFile(copy);
  const damaged = content.slice();
  damaged.fill(0, damaged.length >> 1);
  for (const bytes of [damaged, content.subarray(0, 4096), new Uint8Array()]) {
    await Deno.writeFile(copy, bytes);
    await dial(env, on, address);
    assert.equal(Buffer.compare(await Deno.readFile(await copyOf(on)), content), 0);
  }
  assert.deepEqual(await namesIn(on.env.TMPDIR!), []);
});

scenario("the program works without a cache folder that it can trust", {
  needs: ["compiled"],
}, async (env) => {
  const on = await env.host("a"), address = await makeAddress(env, on);
  const folder = join(on.env.XDG_CACHE_HOME!, "git-annex-p2p-iroh");
  await Deno.mkdir(folder, { recursive: true });
  await Deno.chmod(folder, 0o777);
  const { stderr } = await dial(env, on, address);
  assert.match(stderr, /unpacked for this start alone: .*git-annex-p2p-iroh is open to others/);
  assert.deepEqual(await namesIn(folder), []);
  assert.deepEqual(await namesIn(on.env.TMPDIR!), []);
});

/** Makes a host with a folder from which the system loads no code. */
async function withNoexec(env: TestEnv, name: string): Promise<{ on: Host; noexec: string }> {
  const noexec = join(env.dir, `noexec-${name}`);
  await Deno.mkdir(noexec);
  const script = 'mount -t tmpfs -o noexec,mode=700 tmpfs "$0" && exec "$@"';
  const on = await env.host(name, ["unshare", "--mount", "sh", "-c", script, noexec]);
  return { on, noexec };
}

scenario("if the system does not load the copy of iroh's addon, the program uses a temporary one", {
  needs: ["compiled", "namespaces"],
}, async (env) => {
  const address = await makeAddress(env, await env.host("a"));
  const { on, noexec } = await withNoexec(env, "b");
  const { stderr } = await dial(env, on, address, { XDG_CACHE_HOME: noexec });
  assert.match(stderr, /unpacked for this start alone: .*failed to map segment/);
  assert.deepEqual(await namesIn(on.env.TMPDIR!), []);
});

scenario("if no folder permits loading iroh's addon, the program says what to do", {
  needs: ["compiled", "namespaces"],
}, async (env) => {
  const address = await makeAddress(env, await env.host("a"));
  const { on, noexec } = await withNoexec(env, "b");
  const run = await env.iroh([address], {
    on,
    env: { XDG_CACHE_HOME: noexec, TMPDIR: noexec },
    stdin: "",
  });
  assert.equal(run.code, 1);
  assert.match(
    run.stderr,
    /^git-annex-p2p-iroh: cannot load iroh's native code, .*failed to map segment.*; .*TMPDIR.*\n$/,
  );
});
