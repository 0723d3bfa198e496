/** Folders, files and environments that are not usual: what works there, works; the rest is one clear line. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { processInfo } from "../lib/platform/processes.ts";
import { type Friend, makeFriend } from "./friends.ts";
import { makeLoopback } from "./network.ts";
import { echo, makeRepository, unknownAddress } from "./pair.ts";
import { isCompiled } from "../tasks/program.ts";
import {
  assertOneLine,
  type Host,
  openFilesOf,
  type Run,
  scenario,
  type TestEnv,
} from "./testenv.ts";
import { UNPRIVILEGED, UNPRIVILEGED_TOOLS } from "./users.ts";
import { answered, unlessSlow } from "./warm.ts";

const PROGRAM = "git-annex-p2p-iroh";
/** Files that a listener may open beside those of its start: for a few of twelve sessions. */
const FURTHER_FILES = 8;
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
  const connect = `${here} GIT_ANNEX_P2P_IROH_LOG=debug exec ${PROGRAM} ${address}`;
  const warm = await unlessSlow(() => sh(env, b, connect, "word"));
  assert.deepEqual([warm.code, warm.stdout], [0, answered("word")]);
  assert.match(warm.stderr, /through the running listener/);
  const status = await sh(env, b, `${here} exec ${PROGRAM} status`);
  assert.match(status.stdout, new RegExp(`^listener {2}process ${listener.pid}, since `, "m"));
  const doctor = await sh(env, b, `${here} exec ${PROGRAM} doctor`);
  assert.doesNotMatch(doctor.stdout, /bug|could not be made/);
  if (isCompiled()) return; // Deno's runtime itself ends at an argument that is not UTF-8
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
    const script = `${name}="$(printf '/x\\377')" exec ${PROGRAM} ${address}`;
    const { code, stdout, stderr } = await sh(env, b, script, "word");
    if (name === "TMPDIR" && isCompiled()) { // Deno's runtime finds embedded files below it
      assertOneLine(stderr);
      assert.match(stderr, /cannot find iroh's native code, .*, set TMPDIR to another\n/);
    } else assert.deepEqual([code, stdout, stderr], [0, answered("word"), ""], name);
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
    for (const command of [["address"], ["status"]]) {
      const run = await env.iroh(command, on);
      assert.equal(run.code, 1, run.stdout);
      assert.match(run.stderr, /iroh-\w+.* it is not a regular file/, command[0]);
    }
    const doctor = await env.iroh(["doctor"], on);
    assert.match(doctor.stdout, /cannot tell whether .* served, it is not a regular file; remove/);
  }
  const serve = await env.iroh([address, "/no/such/socket"], on);
  assert.match(serve.stderr, /iroh-secret, it is not a regular file; move it away/);
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
    assert.equal(code, command.some((word) => word === "--watch") ? 0 : 143, command[0]);
  }
});

scenario("in a repository on a read-only mount, what needs no writing works", {
  needs: ["namespaces"],
}, async (env) => {
  const { b, address } = await listenAt(env);
  const cwd = await makeRepository(env, b, "repository");
  const empty = await makeRepository(env, b, "empty");
  const own = (await env.iroh(["address"], { on: b, cwd })).stdout;
  const readOnly = (words: string, at = cwd, stdin?: string) =>
    sh(
      env,
      { ...b, prefix: [...b.prefix, "unshare", "--mount"] },
      `mount --bind ${at} ${at} && mount -o remount,ro,bind ${at} ${at} && ` +
        `cd ${at} && exec ${PROGRAM} ${words}`,
      stdin,
    );
  const connect = await readOnly(address, cwd, "word");
  assert.deepEqual([connect.code, connect.stdout, connect.stderr], [0, answered("word"), ""]);
  const printed = await readOnly("address");
  assert.deepEqual([printed.code, printed.stdout, printed.stderr], [0, own, ""]);
  const status = await readOnly("status");
  assert.deepEqual([status.code, status.stderr], [0, ""]);
  assert.doesNotMatch((await readOnly("doctor")).stdout, /could not be made/);
  for (const words of ["address", "up"]) {
    const refused = await readOnly(words, empty);
    assert.equal(refused.code, 1);
    assertOneLine(refused.stderr);
    assert.match(refused.stderr, /: cannot write .*read-only file system; /);
  }
});

scenario("in a repository of another user, a process connects, and the rest is one clear line", {
  needs: ["users", ...UNPRIVILEGED_TOOLS],
}, async (env) => {
  const { b, address } = await listenAt(env);
  const cwd = await makeRepository(env, b, "repository");
  const own = (await env.iroh(["address"], { on: b, cwd })).stdout.trim();
  const annex = join(cwd, ".git", "annex"), otherUser = 12345;
  await Deno.mkdir(join(annex, "p2p-iroh"), { mode: 0o700 });
  for (const name of ["creds", "p2p-iroh"]) {
    await Deno.chown(join(annex, name), otherUser, otherUser);
  }
  const on = { on: { ...b, prefix: [...b.prefix, ...UNPRIVILEGED] }, cwd };
  const connect = await env.iroh([address], { ...on, stdin: "word" });
  assert.deepEqual([connect.code, connect.stdout, connect.stderr], [0, answered("word"), ""]);
  for (const command of [["address"], ["status"], [own, join(b.dir, "socket")]]) {
    const { code, stderr } = await env.iroh(command, on);
    assert.equal(code, 1);
    assertOneLine(stderr);
    assert.match(stderr, /identity file .*, permission denied; run this as the user who owns it/);
  }
  const doctor = await env.iroh(["doctor"], on);
  assert.match(
    doctor.stdout,
    /^failure +cannot tell whether this .*, permission denied; ask as the user/m,
  );
  assert.doesNotMatch(doctor.stdout, /could not be made/);
});

scenario("with few open files, what can be served is served, and the rest is told the reason", {
  needs: ["proc"], // the numbers are those of Linux
}, async (env) => {
  const { a, b } = await makeLoopback(env);
  const peer = await makeFriend(env, a, echo), dialer = await makeFriend(env, b, echo);
  // Pipes to a git that it runs would count, too.
  await env.until("the listener to run nothing", async () => {
    const running = await Promise.all((await env.marked()).map(processInfo));
    return !running.some((info) => info?.parent === peer.listener.pid);
  });
  const limit = await openFilesOf(peer.listener.pid) + FURTHER_FILES;
  peer.listener.kill("SIGTERM");
  await peer.listener.ended;
  const command = `ulimit -n ${limit} && exec ${PROGRAM} ${peer.address} ${peer.fakeAnnex.path}`;
  const listener = await env.start(["sh", "-c", command], { on: a, cwd: peer.repository });
  await listener.says(/serving endpoint/);
  const address = await peer.at();
  const open = await Promise.all(
    Array.from({ length: 12 }, () => dialer.connect(address, { stdin: "open" })),
  );
  await env.until(
    "each process to be served or refused",
    () => open.every(({ stdout, code }) => stdout.includes("AUTH-SUCCESS") || code !== undefined),
  );
  const refused = open.filter(({ code }) => code !== undefined);
  assert(refused.length > 0 && refused.length < open.length, `${refused.length} refused`);
  for (const { stderr } of refused) {
    assert.match(
      stderr,
      /: the peer ended the connection: too many connections .*; try again later\n/,
    );
  }
  for (const process of open.filter((process) => !refused.includes(process))) {
    await process.write("word");
    await process.end();
    assert.equal((await process.ended).stdout, answered("word"));
  }
  // Those that have ended make room.
  const next = await (await dialer.connect(address, { stdin: "word" })).ended;
  assert.deepEqual([next.code, next.stdout], [0, answered("word")]);
  const few = await sh(env, b, `ulimit -n 29 && exec ${PROGRAM} ${address}`, "word");
  assert.deepEqual([few.code, few.stdout, few.stderr], [0, answered("word"), ""]);
});

scenario("the folder annex is made so that other users of a shared repository can use it", {
  needs: [],
}, async (env) => {
  const { a } = await makeLoopback(env);
  const cwd = await makeRepository(env, a, "repository");
  await env.ok(["sh", "-c", `umask 002 && exec ${PROGRAM} address`], { on: a, cwd });
  const modeOf = async (name: string) => (await Deno.stat(join(cwd, ".git", name))).mode! & 0o777;
  assert.equal(await modeOf("annex"), 0o775);
  assert.equal(await modeOf("annex/creds"), 0o700);
});

/** What a terminal obeys, or shows in another order: ESC, CSI as one character, bidirectional override. */
const DANGEROUS = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
const EVIL = "a\x1b[31mb\u009b2Jc\u202ed";

scenario(
  "names of folders and remotes reach no terminal and no JSON as they are",
  {},
  async (env) => {
    const { a } = await makeLoopback(env);
    const cwd = await makeRepository(env, a, EVIL);
    const config = join(cwd, ".git", "config");
    const remote = (name: string, address: string) =>
      `[remote "${name}"]\n\turl = p2p-annex::iroh:${address}\n`;
    const log = { GIT_ANNEX_P2P_IROH_LOG: "debug" };
    await Deno.writeTextFile(
      config,
      await Deno.readTextFile(config) + remote(EVIL, unknownAddress()) +
        remote(`x${EVIL}`, "damaged"),
    );
    const said = (run: Run) =>
      [run.stdoutBytes, new Uint8Array([...run.stderr].map((byte) => byte.charCodeAt(0)))]
        .map((bytes) => new TextDecoder().decode(bytes)).join("");
    // The folder is in messages, in the findings of doctor, and in the debug log.
    for (
      const command of [["doctor"], ["address"], ["status"], ["status", "--json"], [
        "up",
        "--status",
      ]]
    ) {
      const text = said(await env.iroh(command, { on: a, cwd, env: log }));
      assert.doesNotMatch(text, DANGEROUS, command.join(" "));
    }
    await Deno.writeTextFile(join(cwd, ".git/annex/creds/iroh-secret"), "damaged");
    for (const command of [["doctor"], ["address"], ["status"]]) {
      const text = said(await env.iroh(command, { on: a, cwd }));
      assert.match(text, /identity file .*a \[31mb 2Jc d.* is damaged/, command[0]);
      assert.doesNotMatch(text, DANGEROUS, command[0]);
    }
    await Deno.remove(join(cwd, ".git/annex/creds/iroh-secret"));
    const text = await env.iroh(["status"], { on: a, cwd, env: log });
    assert.match(said(text), /^peer {6}a \[31mb 2Jc d \(/m);
    assert.match(said(text), /remote xa \[31mb 2Jc d: /); // in the debug log
    const json = await env.iroh(["status", "--json"], { on: a, cwd });
    assert.match(json.stdout, /\\u001b\[31mb\\u009b2Jc\\u202ed/);
    assert.deepEqual(JSON.parse(json.stdout).peers[0].remotes, [EVIL]);
  },
);
