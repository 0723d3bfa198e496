/** Folders, files and environments that are not usual: what works there, works; the rest is one clear line. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { type Friend, makeFriend } from "./friends.ts";
import { makeLoopback } from "./network.ts";
import { echo, makeRepository, unknownAddress } from "./pair.ts";
import { assertOneLine, type Host, type Run, scenario, type TestEnv } from "./testenv.ts";
import { answered } from "./warm.ts";

const PROGRAM = "git-annex-p2p-iroh";
/** A command of a shell that changes to a folder whose name is not UTF-8. */
const CHANGE = `cd "$(printf 'caf\\351')"`;

/** Runs commands of a shell. */
function sh(env: TestEnv, on: Host, script: string, stdin?: string): Promise<Run> {
  return env.run(["sh", "-c", script], { on, ...stdin === undefined ? {} : { stdin } });
}

async function listenAt(env: TestEnv): Promise<{ peer: Friend; b: Host; address: string }> {
  const { a, b } = await makeLoopback(env);
  const peer = await makeFriend(env, a, echo);
  return { peer, b, address: await peer.at() };
}

scenario("in a folder whose name is not UTF-8, everything works by a relative path", {
  needs: ["proc"], // macOS has no such names
}, async (env) => {
  const { b, address } = await listenAt(env);
  await sh(env, b, `mkdir "$(printf 'caf\\351')" && ${CHANGE} && git init -q repository`);
  const here = `${CHANGE}/repository && `;
  // Outside of a repository.
  const outside = await sh(env, b, `${CHANGE} && exec ${PROGRAM} ${address}`, "word");
  assert.deepEqual([outside.code, outside.stdout, outside.stderr], [0, answered("word"), ""]);
  const own = (await sh(env, b, `${here} exec ${PROGRAM} address`)).stdout.trim();
  assert.match(own, /^endpoint/);
  const fromBelow = await sh(env, b, `${here} mkdir sub && cd sub && exec ${PROGRAM} address`);
  assert.equal(fromBelow.stdout.trim(), own);
  // Served, on the socket that git-annex names by a relative path.
  const second = await makeFriend(env, b, echo, "other");
  const listener = await env.start([
    "sh",
    "-c",
    `${here} exec ${PROGRAM} ${own} ../../other-socket`,
  ], { on: b });
  await listener.says(/serving endpoint/);
  const warm = await sh(
    env,
    b,
    `${here} GIT_ANNEX_P2P_IROH_LOG=debug exec ${PROGRAM} ${address}`,
    "word",
  );
  assert.deepEqual([warm.code, warm.stdout], [0, answered("word")]);
  assert.match(warm.stderr, /through the running listener/);
  const status = await sh(env, b, `${here} exec ${PROGRAM} status`);
  assert.match(status.stdout, new RegExp(`^listener {2}process ${listener.pid}, since `, "m"));
  const doctor = await sh(env, b, `${here} exec ${PROGRAM} doctor`);
  assert.doesNotMatch(doctor.stdout, /bug|could not be made/);
  // A path that this program cannot open.
  const absolute = await sh(env, b, `${here} exec ${PROGRAM} ${own} "$PWD/socket"`);
  assert.equal(absolute.code, 1);
  assertOneLine(absolute.stderr);
  assert.match(absolute.stderr, /; the name of a folder is not UTF-8, so run .* in the top folder/);
  assert(second);
});

scenario("a variable that is not UTF-8 is ignored, and a setting in one is refused", {
  needs: ["proc"],
}, async (env) => {
  const { b, address } = await listenAt(env);
  const ignored = ["UNRELATED", "XDG_RUNTIME_DIR", "TMPDIR", "XDG_CACHE_HOME", "HOME"];
  for (const name of [...ignored, "GIT_ANNEX_P2P_IROH_LOG"]) {
    const script = `${name}="$(printf 'x\\377')" exec ${PROGRAM} ${address}`;
    const { code, stdout, stderr } = await sh(env, b, script, "word");
    assert.deepEqual([code, stdout, stderr], [0, answered("word"), ""], name);
  }
  const setting = await sh(
    env,
    b,
    `GIT_ANNEX_P2P_IROH_RELAY="$(printf 'x\\377')" exec ${PROGRAM} ${address}`,
    "",
  );
  assert.equal(setting.code, 1);
  assertOneLine(setting.stderr);
  assert.match(setting.stderr, /the setting GIT_ANNEX_P2P_IROH_RELAY is "x.*"; it must be n0/);
});

scenario(
  "a process connects in a folder that git does not accept, and says what it ignores",
  {},
  async (env) => {
    const { b, address } = await listenAt(env);
    const setUp: [name: string, script: string, ignored: RegExp][] = [
      ["damaged", "git init -q . && echo '[p2p-iroh' >> .git/config", /bad config line/],
      ["dangling", "echo 'gitdir: /no/such' > .git", /not a git repository: \/no\/such/],
      ["bare", "git init -q --bare .", /cannot use bare repository/],
    ];
    await env.ok(["git", "config", "--global", "safe.bareRepository", "explicit"], { on: b });
    for (const [name, script, ignored] of setUp) {
      const cwd = join(b.dir, name);
      await Deno.mkdir(cwd);
      await env.ok(["sh", "-c", script], { on: b, cwd });
      const run = (log: string) =>
        env.iroh([address], { on: b, cwd, stdin: "word", env: { GIT_ANNEX_P2P_IROH_LOG: log } });
      const quiet = await run("");
      assert.deepEqual([quiet.code, quiet.stdout, quiet.stderr], [0, answered("word"), ""], name);
      assert.match((await run("debug")).stderr, ignored);
    }
    // The settings of the user still hold.
    const cwd = join(b.dir, "damaged");
    await env.ok(["git", "config", "--global", "p2p-iroh.relay", "nonsense"], { on: b });
    const own = { ...b, env: { ...b.env } };
    delete own.env.GIT_ANNEX_P2P_IROH_RELAY;
    const refused = await env.iroh([address], { on: own, cwd, stdin: "" });
    assert.match(refused.stderr, /the setting p2p-iroh\.relay is "nonsense"/);
  },
);

scenario("a bare repository is served where git wants it to be named", {}, async (env) => {
  const { a } = await makeLoopback(env);
  await env.ok(["git", "config", "--global", "safe.bareRepository", "explicit"], { on: a });
  const friend = await makeFriend(env, a, echo);
  const cwd = join(a.dir, "bare.git");
  await env.ok(["git", "init", "-q", "--bare", cwd], { on: a });
  await env.ok(["git", "--git-dir", cwd, "config", "p2p-iroh.max-connections", "7"], { on: a });
  const on = { on: a, cwd };
  const address = (await env.ok([PROGRAM, "address"], on)).trim();
  const listener = await env.start([PROGRAM, address, friend.fakeAnnex.path], on);
  await listener.says(/serving endpoint/);
  assert.match(await env.ok([PROGRAM, "status"], on), new RegExp(`process ${listener.pid}, since`));
  await env.ok(["git", "--git-dir", cwd, "config", "p2p-iroh.max-connections", "none"], { on: a });
  const refused = await env.iroh([address, friend.fakeAnnex.path], on);
  assert.match(refused.stderr, /max-connections is "none"/); // its settings are read
});

scenario("a FIFO in the place of a file stops no command", {}, async (env) => {
  const { a } = await makeLoopback(env);
  const cwd = await makeRepository(env, a, "repository");
  const address = (await env.iroh(["address"], { on: a, cwd })).stdout.trim();
  const annex = join(cwd, ".git", "annex");
  await Deno.mkdir(join(annex, "p2p-iroh"), { mode: 0o700 });
  const names = ["control", "listener", "up", "peers.json", "log"].map((name) =>
    `p2p-iroh/${name}`
  );
  for (const name of names) await env.ok(["mkfifo", join(annex, name)], { on: a });
  const on = { on: a, cwd, stdin: "" };
  const connect = await env.iroh([unknownAddress()], on);
  assert.match(connect.stderr, /no route to it is known/);
  for (const name of ["creds/iroh-address", "creds/iroh-secret"]) {
    await Deno.remove(join(annex, name));
    await env.ok(["mkfifo", join(annex, name)], { on: a });
    for (const command of [["address"], ["status"], [address, "/no/such/socket"]]) {
      const run = await env.iroh(command, on);
      assert.equal(run.code, 1, run.stdout);
      assert.match(run.stderr, /iroh-\w+.* it is not a regular file/, command[0]);
    }
    const doctor = await env.iroh(["doctor"], on);
    assert.match(doctor.stdout, /cannot tell whether .* served, it is not a regular file/);
  }
});

scenario("SIGTERM ends every command within a second, whatever it waits for", {}, async (env) => {
  const { a } = await makeLoopback(env);
  const cwd = await makeRepository(env, a, "repository");
  const address = (await env.iroh(["address"], { on: a, cwd })).stdout.trim();
  const realGit = (await env.ok(["sh", "-c", "command -v git"], { on: a })).trim();
  const stuck = join(a.dir, "stuck"), started = join(a.dir, "started");
  await Deno.mkdir(stuck);
  /** Makes a git that does not answer, or only where the repository is. */
  const writeGit = (answers: string) =>
    Deno.writeTextFile(
      join(stuck, "git"),
      `#!/bin/sh\ncase "$*" in ${answers}) exec ${realGit} "$@";; esac\n: > ${started}\nexec sleep 60\n`,
      { mode: 0o755 },
    );
  const others = [
    ["address"],
    ["status"],
    ["doctor"],
    ["up"],
    ["ping", unknownAddress()],
    [unknownAddress()],
    [address, join(a.dir, "socket")],
  ];
  const cases = [
    ...others.map((command) => ["nothing", command] as const),
    ["*rev-parse*", ["status"]] as const,
    ["*rev-parse*", ["status", "--watch"]] as const,
    ["*rev-parse*", ["doctor"]] as const,
  ];
  for (const [answers, command] of cases) {
    await writeGit(answers);
    await Deno.remove(started).catch(() => {}); // of the command before
    const process = await env.start([PROGRAM, ...command], {
      on: a,
      cwd,
      stdin: "open",
      env: { PATH: `${stuck}:${a.env.PATH}` },
    });
    await env.until("git to be asked", () => Deno.stat(started).then(() => true, () => false));
    const begin = performance.now();
    process.kill("SIGTERM");
    const { code } = await process.ended;
    const ms = performance.now() - begin;
    assert(ms < 1_500, `${command[0]} took ${ms} ms`); // on a busy machine
    assert.equal(code, 143, command[0]);
  }
});
