/** The runtime folder goes away, differs between processes, or cannot be used. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { makeFriend, makeFriends } from "./friends.ts";
import { makeLoopback } from "./network.ts";
import { scenario } from "./testenv.ts";
import { exchange, folderOf, locatorFileOf } from "./warm.ts";

const STATUS = ["git-annex-p2p-iroh", "status"];

scenario("a listener is found again after the system has removed its runtime folder", {
  waits: true,
}, async (env) => {
  const hosts = await makeLoopback(env);
  // Two repositories of one user.
  for (const name of ["XDG_RUNTIME_DIR", "TMPDIR"]) hosts.b.env[name] = hosts.a.env[name]!;
  const a = await makeFriend(env, hosts.a), b = await makeFriend(env, hosts.b);
  const begin = performance.now();
  // As logind does when the user logs out.
  await Deno.remove(hosts.a.env.XDG_RUNTIME_DIR!, { recursive: true });
  await env.until("a connect through the listener", async () => {
    // The address has no socket address, so the listener must find the peer on this host.
    const process = await b.connect(a.address, { stdin: "word" });
    const { code, stderr } = await process.ended;
    return code === 0 && /through the running listener/.test(stderr);
  });
  const status = await env.ok(STATUS, { on: b.host, cwd: b.repository });
  assert.match(status, new RegExp(`^listener {2}process ${b.listener.pid}, since `, "m"));
  const seconds = (performance.now() - begin) / 1000;
  assert(seconds < 30, `it took ${seconds} s`);
});

scenario(
  "a process finds the listener of its repository in whatever environment it runs",
  {},
  async (env) => {
    const [a, b] = await makeFriends(env);
    const other = await env.host("other");
    const names = ["XDG_RUNTIME_DIR", "TMPDIR", "HOME", "XDG_CACHE_HOME"];
    const differing = Object.fromEntries(names.map((name) => [name, other.env[name]!]));
    assert.equal((await exchange(b, await a.at(), { env: differing })).isWarm, true);
    const status = await env.ok(STATUS, { on: b.host, cwd: b.repository, env: differing });
    assert.match(status, new RegExp(`^listener {2}process ${b.listener.pid}, since `, "m"));
  },
);

scenario(
  "a listener uses another folder if the path of one is too long, and one is planted",
  {},
  async (env) => {
    const [a, b] = await makeFriends(env);
    const long = join(b.host.dir, "x".repeat(100)),
      planted = join(b.host.env.TMPDIR!, `git-annex-p2p-iroh-${Deno.uid()}`);
    await Deno.mkdir(long, { mode: 0o700 });
    await Deno.mkdir(planted);
    await Deno.chmod(planted, 0o777);
    b.listener.kill("SIGTERM");
    await b.listener.ended;
    b.listener = await b.listen({ env: { XDG_RUNTIME_DIR: long } });
    const { isWarm } = await exchange(b, await a.at(), { env: { XDG_RUNTIME_DIR: long } });
    assert.equal(isWarm, true);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(planted)), []);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(long)), []);
    b.listener.kill("SIGTERM");
    await b.listener.ended;
    assert.doesNotMatch(b.listener.stderr, /no connections are kept|by another route/);
  },
);

scenario("status and doctor say that another host serves the repository", {}, async (env) => {
  const [a, b] = await makeFriends(env);
  const on = { on: b.host, cwd: b.repository };
  const kept = join(b.repository, ".git", "annex", "p2p-iroh");
  const { path, text } = await locatorFileOf(b), address = await a.at();
  const listener = join(kept, "listener"), signature = await Deno.readTextFile(listener);
  b.listener.kill("SIGKILL"); // as if it had never run here
  await b.listener.ended;
  const { name, boot } = JSON.parse(signature).host;
  // The process id is that of a process here.
  const elsewhere = (text: string) =>
    text.replace(boot, "another").replace(`"${name}"`, '"nas"').replace(
      /"pid":\d+/,
      `"pid":${Deno.pid}`,
    );
  await Deno.writeTextFile(listener, elsewhere(signature));
  await Deno.writeTextFile(path, elsewhere(text));
  const { isWarm, stderr } = await exchange(b, address);
  assert.equal(isWarm, false);
  assert.match(stderr, /not through the running listener: it runs in another place, on nas/);
  assert.match(
    await env.ok(STATUS, on),
    /^listener {2}on nas; run git-annex-p2p-iroh status there$/m,
  );
  const json = JSON.parse(await env.ok([...STATUS, "--json"], on));
  assert.deepEqual(json.listener, {
    elsewhere: "nas",
    pid: null,
    version: null,
    since: null,
    relay: null,
    addresses: [],
  });
  const doctor = await env.iroh(["doctor"], on);
  assert.match(doctor.stdout, /^ok +this repository is served on nas, as its files say$/m);
  // A later listener here takes over.
  b.listener = await b.listen();
  assert.equal((await exchange(b, address)).isWarm, true);
});

scenario("a container that shares the repository believes no process id of another one", {
  needs: ["namespaces"],
}, async (env) => {
  const [a, b] = await makeFriends(env);
  const container = { ...b.host, prefix: ["unshare", "--pid", "--fork", "--mount-proc"] };
  const on = { on: container, cwd: b.repository };
  assert.match(
    await env.ok(STATUS, on),
    /^listener {2}on \S+, in another container; run git-annex-p2p-iroh status there$/m,
  );
  const { isWarm, stderr } = await exchange(b, await a.at(), { on: container });
  assert.equal(isWarm, false);
  assert.match(stderr, /it runs in another place/);
  assert(await Deno.stat(folderOf(b.host)));
});
