/** `doctor` finds what is wrong, and changes nothing. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Annex, ANNEX_TOOLS } from "./annex.ts";
import { makeNetwork, startRelay } from "./network.ts";
import { echo, makePair, makeRepository } from "./pair.ts";
import { type Host, type Run, scenario, type TestEnv } from "./testenv.ts";
import { python } from "./tools.ts";

/** Returns the lines that begin with a word. */
function lines(run: Run, state: "ok" | "warning" | "failure"): string[] {
  return run.stdout.split("\n").filter((line) => line.startsWith(`${state} `));
}

function doctor(env: TestEnv, on: Host, cwd: string, more: Record<string, string> = {}) {
  return env.iroh(["doctor"], { on, cwd, env: more });
}

/** Returns each file below a folder, except the listener's log, with what shows a change of it. */
async function filesBelow(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (path.endsWith("annex/p2p-iroh/log")) continue;
    const { mtime, mode, size } = await Deno.lstat(path);
    // The listener touches its registration every 30 s.
    const changed = /\/git-annex-p2p-iroh\/[0-9a-f]{64}\.json$/.test(path) ? "" : mtime?.getTime();
    found.push(isDirectory ? path : `${path} ${changed} ${mode} ${size}`);
    if (isDirectory) found.push(...await filesBelow(path));
  }
  return found.toSorted();
}

scenario("doctor reports no failure where all is well, and exits 0", {
  needs: [...ANNEX_TOOLS, "wormhole", "iroh-relay", "namespaces"],
  limitMs: 90_000,
}, async (env) => {
  const { a, relay } = await makeNetwork(env, "lan");
  const { url } = await startRelay(env, relay);
  a.env.GIT_ANNEX_P2P_IROH_RELAY = url;
  a.env.GIT_ANNEX_P2P_IROH_LAN = "true";
  const annex = await Annex.make(env, a);
  await annex.enable();
  await annex.serve();
  const before = await filesBelow(a.dir); // includes the user's folders
  const run = await doctor(env, a, annex.path);
  assert.equal(run.stderr, "");
  assert.deepEqual(lines(run, "failure"), []);
  // A relay over http reports no public address.
  const [warning, ...more] = lines(run, "warning");
  assert.match(
    warning!,
    /^warning {2}cannot tell whether UDP gets out: the relay .*; .*p2p-iroh\.external$/,
  );
  assert.deepEqual(more, []);
  const fine = lines(run, "ok").join("\n");
  for (
    const part of [
      /^ok {7}git-annex 10\.\d{8}$/m,
      /git-remote-p2p-annex is \//,
      /to pair, run git-annex-p2p-iroh invite and join, or git annex p2p --pair with \//,
      /git-annex-p2p-iroh \d\S* is \//,
      /identity file \/.*iroh-secret$/m,
      /process \d+ serves this repository/,
      /relay http:/,
      /the clock agrees with that of the relay/,
      /multicast can be sent and received/,
    ]
  ) assert.match(fine, part);
  assert.equal(run.code, 0);
  assert.deepEqual(await filesBelow(a.dir), before);
});

scenario("doctor says what is wrong, what to do about it, and exits 1", {
  waits: true,
  limitMs: 90_000,
}, async (env) => {
  const host = await env.host("host");
  const cwd = await makeRepository(env, host, "repository");
  // PATH holds git, a shell and what starts the program, and no other program.
  const path = join(host.dir, "few");
  await Deno.mkdir(path);
  for (const name of ["git", "sh", "deno", "ip", "env"]) {
    const found = await env.run(["sh", "-c", `command -v ${name}`], { on: host });
    if (found.code === 0) await Deno.symlink(found.stdout.trim(), join(path, name));
  }
  const program = join(host.dir, "bin", "git-annex-p2p-iroh");
  const run = await env.run([program, "doctor"], {
    on: host,
    cwd,
    env: {
      PATH: path,
      GIT_ANNEX_P2P_IROH_RELAY: "http://127.0.0.1:9",
      HTTP_PROXY: "http://127.0.0.1:9",
    },
  });
  assert.equal(run.code, 1);
  const wrong = lines(run, "failure").join("\n");
  for (
    const part of [
      /git-annex is not on PATH; install git-annex 10\./,
      /git-remote-p2p-annex is not on PATH.*; make it a link/,
      /git-annex-p2p-iroh is not on PATH.*; put it/,
      /this repository has no identity; run git-annex-p2p-iroh up, which makes one/,
      /no relay answers within 10 s, http:\/\/127\.0\.0\.1:9\/; is this machine online/,
    ]
  ) assert.match(wrong, part);
  assert.match(lines(run, "ok").join("\n"), /or git annex p2p --pair, which needs wormhole/);
  assert.match(
    lines(run, "warning").join("\n"),
    /the proxy of HTTP_PROXY, 127\.0\.0\.1:9, does not answer \(connection refused\), .*; unset HTTP_PROXY/,
  );
  assert.match(
    lines(run, "warning").join("\n"),
    /not being served.*; run git-annex-p2p-iroh up, or .* --install/,
  );
});

scenario(
  "doctor finds another program of the same name, and a git-annex that is too old",
  {},
  async (env) => {
    const host = await env.host("host");
    const cwd = await makeRepository(env, host, "repository");
    const program = join(host.dir, "bin", "git-annex-p2p-iroh");
    const before = join(host.dir, "before");
    await Deno.mkdir(before);
    const script = (text: string) => `#!/bin/sh\necho ${text}\n`;
    for (
      const [name, text] of [["git-annex-p2p-iroh", "dumbpipe"], ["git-annex", "10.20250101-g1"]]
    ) {
      await Deno.writeTextFile(join(before, name!), script(text!), { mode: 0o755 });
    }
    const run = await env.run([program, "doctor"], {
      on: host,
      cwd,
      env: { PATH: `${before}:${host.env.PATH}` },
    });
    assert.equal(run.code, 1);
    assert.match(run.stdout, /^failure {2}git-annex 10\.20250101 is too old; install/m);
    assert.match(
      run.stdout,
      /^failure {2}git-annex runs another program, \/.* prints dumbpipe; replace it/m,
    );
  },
);

scenario(
  "doctor finds an identity that others may read, and one that is damaged",
  {},
  async (env) => {
    const pair = await makePair(env, "loopback", echo);
    const { a } = pair.network;
    const secret = join(pair.repository, ".git/annex/creds/iroh-secret");
    await Deno.chmod(secret, 0o644);
    const open = await doctor(env, a, pair.repository);
    assert.match(open.stdout, /^warning {2}others may read the identity file .*; run chmod 600/m);
    await Deno.writeTextFile(secret, "nothing of the kind\n");
    const damaged = await doctor(env, a, pair.repository);
    assert.equal(damaged.code, 1);
    assert.match(damaged.stdout, /^failure {2}the identity file .* is damaged.*; restore it/m);
  },
);

scenario("doctor is not misled by what a killed listener has left", {
  needs: ["namespaces"],
}, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  pair.listener.kill("SIGKILL");
  await pair.listener.ended;
  // After a reboot, another process may have the id of the listener.
  const left = join(pair.repository, ".git/annex/p2p-iroh/listener");
  await Deno.writeTextFile(left, `${Deno.pid} something\n`);
  const run = await doctor(env, pair.network.a, pair.repository);
  assert.match(run.stdout, /^warning {2}this repository is not being served/m);
});

scenario(
  "doctor reports a wrong setting, and makes all other checks",
  {},
  async (env) => {
    const host = await env.host("host");
    const cwd = await makeRepository(env, host, "repository");
    const run = await doctor(env, host, cwd, { GIT_ANNEX_P2P_IROH_BIND: "nonsense" });
    assert.equal(run.code, 1);
    assert.match(
      run.stdout,
      /^failure {2}the setting GIT_ANNEX_P2P_IROH_BIND is "nonsense"; it must be/m,
    );
    assert.match(run.stdout, /this repository has no identity/);
  },
);

scenario("doctor reports two listeners", { needs: ["namespaces"] }, async (env) => {
  const pair = await makePair(env, "loopback", echo);
  const fine = await doctor(env, pair.network.a, pair.repository);
  assert.match(fine.stdout, new RegExp(`^ok {7}process ${pair.listener.pid} serves`, "m"));
  // The second one does not stop by itself, like that of the shell script.
  const command = python("do_nothing.py", pair.address, "socket");
  const other = await env.start(command, { on: pair.network.a });
  // Before that, python3 may be a script of pyenv, whose subshells have the same command line.
  await other.says(/ready/);
  const two = await doctor(env, pair.network.a, pair.repository);
  assert.equal(two.code, 1);
  const pids = [pair.listener.pid, other.pid].toSorted((x, y) => x - y).join(", ");
  assert.match(
    two.stdout,
    new RegExp(`^failure {2}2 processes serve this repository: ${pids};`, "m"),
  );
});

scenario("doctor says that it is not in a repository", {}, async (env) => {
  const run = await env.iroh(["doctor"], { cwd: (await env.host("host")).dir });
  assert.deepEqual([run.code, run.stdout], [1, ""]);
  assert.match(run.stderr, /^git-annex-p2p-iroh: this is not a git repository;/);
});
