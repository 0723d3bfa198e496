/** `up` serves a repository with the real git-annex, keeps it served, and leaves nothing behind. */

import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { Annex, ANNEX_TOOLS } from "./annex.ts";
import { makeLoopback } from "./network.ts";
import { assertOneLine, killQuietly, scenario, type Started, type TestEnv } from "./testenv.ts";
import { python } from "./tools.ts";
import { startUp, validEvents } from "./up.ts";

/** Timeout for one attempt of `git fetch`, which takes half a second unless it hangs. */
const FETCH_LIMIT_MS = 10_000;

const needs = [...ANNEX_TOOLS, "proc"] as const;

/** Makes a repository without an address. */
async function makeAnnex(env: TestEnv, name = "annex"): Promise<Annex> {
  return await Annex.make(env, (await makeLoopback(env)).a, name);
}

/** Returns the ids of this test's processes whose command line has all these words, or paths that end with them. */
async function pidsWith(env: TestEnv, ...words: string[]): Promise<number[]> {
  const pids: number[] = [];
  for (const pid of await env.marked()) {
    const line = await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => ""); // it has ended
    const names = line.split("\0").map((arg) => basename(arg));
    if (words.every((word) => names.includes(word))) pids.push(pid);
  }
  return pids;
}

const daemons = (env: TestEnv) => pidsWith(env, "git-annex", "remotedaemon");

/** Waits until `up` has said `count` times that the repository is served. @returns The last listener. */
async function ready(env: TestEnv, up: Started, count = 1): Promise<number> {
  const all = () => [...up.stdout.matchAll(/^ready, process (\d+) serves/gm)];
  await env.until(`${count} times "ready"`, () => {
    if (up.code !== undefined) throw new Error(`up has ended: ${up.stderr}`);
    return all().length >= count;
  });
  return Number(all().at(-1)![1]);
}

/**
 * Commits changes until an `up` elsewhere has fetched some. A fetch of git-annex may hang with any transport, if
 * its server drops git's last bytes: it is ended here, sooner than `up` would.
 */
async function changeUntilSynced(env: TestEnv, annex: Annex, up: Started): Promise<void> {
  for (let i = 0; !/"event":"synced"/.test(up.stdout); i++) {
    await annex.write(`file-${i}`, new TextEncoder().encode(`content ${i}`));
    await annex.add();
    const deadline = performance.now() + FETCH_LIMIT_MS;
    await env.until(
      "git to have fetched",
      () => /"event":"synced"/.test(up.stdout) || performance.now() > deadline,
    );
    for (const pid of await pidsWith(env, "git", "fetch")) killQuietly(pid, "SIGKILL");
  }
}

/** Returns the path of the git-annex that runs in a repository. */
async function gitAnnexOf(env: TestEnv, { host }: Annex): Promise<string> {
  return (await env.ok(["sh", "-c", "command -v git-annex"], { on: host })).trim();
}

/**
 * Waits until one process alone is left of some. A process that is about to start another one is two for a moment, of
 * the same command line.
 */
async function onlyOne(
  env: TestEnv,
  pids: (env: TestEnv) => Promise<number[]> = daemons,
): Promise<number> {
  let found: number[] = [];
  await env.until("one process alone", async () => (found = await pids(env)).length === 1);
  return found[0]!;
}

/** Waits until no process of the test is left. @returns How long that took, in seconds. */
async function nothingLeft(env: TestEnv): Promise<number> {
  const begin = performance.now();
  await env.until("all processes to end", async () => (await env.marked()).length === 0);
  return (performance.now() - begin) / 1000;
}

scenario(
  "up gives an address, hears a remote that is linked while it runs, and tells what happens",
  {
    needs,
    limitMs: 90_000,
    takesTurns: true,
  },
  async (env) => {
    const { a: host } = await makeLoopback(env);
    const a = await Annex.make(env, host, "a"), b = await Annex.make(env, host, "b");
    const upA = await startUp(a), upB = await startUp(b, "--json");
    await ready(env, upA);
    await upB.says(/"event":"ready"/);
    assert.match(upA.stdout, /^address endpoint[a-z2-7]+\nready, /);

    await b.link("friend", await a.addresses());
    const linked = performance.now();
    await upB.says(/"event":"here","remote":"friend"/);
    const seconds = (performance.now() - linked) / 1000;
    assert(seconds < 3, `heard after ${seconds} s`);

    await changeUntilSynced(env, a, upB);
    assert.match(await b.gitOk(["branch", "--remotes"]), /^ {2}friend\//m);

    upA.kill("SIGTERM");
    assert.deepEqual([(await upA.ended).code, upA.stderr], [0, ""]);
    assert.match(upA.stdout, /\nstopping, ended by SIGTERM\n$/);
    await upB.says(/"event":"gone","remote":"friend"/);
    // What is committed while the friend is away is fetched when it is here again.
    await a.write("while away", new TextEncoder().encode("content"));
    await a.add();
    const head = await a.gitOk(["rev-parse", "HEAD"]);
    const again = await startUp(a);
    const refs = ["for-each-ref", "--format=%(objectname)", "refs/remotes/friend"];
    for (let isFetched = false; !isFetched;) {
      const deadline = performance.now() + FETCH_LIMIT_MS;
      await env.until("git to have fetched", async () => {
        isFetched = (await b.gitOk(refs)).includes(head);
        return isFetched || performance.now() > deadline;
      });
      for (const pid of await pidsWith(env, "git", "fetch")) killQuietly(pid, "SIGKILL");
    }
    again.kill("SIGTERM");
    await again.ended;
    upB.kill("SIGTERM");
    assert.equal((await upB.ended).code, 0);
    assert.deepEqual(await env.marked(), []);
    const events = validEvents(upB.stdout);
    const kinds = events.map(({ event }) => event).filter((event) =>
      event !== "message" && event !== "not-synced"
    );
    // remotedaemon may connect again while the remote is linked, which changes git config several times.
    assert.deepEqual(kinds.slice(0, 3), ["address", "ready", "here"]);
    assert(kinds.indexOf("changes") < kinds.indexOf("synced"));
    assert.equal(kinds.at(-1), "stopping");
    assert.deepEqual(
      new Set(kinds),
      new Set(["address", "ready", "here", "changes", "synced", "gone", "stopping"]),
    );
    // git's own lines about a fetch are not passed on.
    assert(!events.some((event) => event.event === "message" && / -> |From/.test(event.text)));
    const log = await Deno.readTextFile(join(b.path, ".git/annex/p2p-iroh/up.log"));
    assert.match(log, /Z \[\d+\] synced with friend$/m);
  },
);

scenario("up starts again what is killed: remotedaemon, the listener, and both", {
  needs,
  limitMs: 90_000,
  waits: true,
}, async (env) => {
  const annex = await makeAnnex(env);
  const up = await startUp(annex);
  const kill = (...pids: number[]) => pids.forEach((pid) => killQuietly(pid, "SIGKILL"));
  let listener = await ready(env, up);
  kill(listener);
  const second = await ready(env, up, 2);
  assert.notEqual(second, listener);
  assert.match(
    up.stdout,
    new RegExp(`^the listener, process ${listener}, has ended; starting`, "m"),
  );
  kill(...await daemons(env));
  await up.says(/^git annex remotedaemon has ended.*; starting again in 2 s$/m);
  listener = await ready(env, up, 3);
  kill(...await daemons(env), listener);
  await ready(env, up, 4);
  await onlyOne(env);
  assert.equal(await onlyOne(env, () => pidsWith(env, "up")), up.pid);
});

scenario("up ends all that it started at each signal, and when its terminal closes", {
  needs,
  limitMs: 90_000,
}, async (env) => {
  const annex = await makeAnnex(env);
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    const up = await startUp(annex);
    await ready(env, up);
    up.kill(signal);
    assert.deepEqual([(await up.ended).code, await env.marked()], [0, []]);
  }
  const command = python("on_terminal.py", "git-annex-p2p-iroh", "up");
  const terminal = await env.start(command, { on: annex.host, cwd: annex.path, stdin: "open" });
  await terminal.says(/ready, process/);
  await terminal.end(); // which closes the terminal
  await nothingLeft(env);

  // A git-annex that does not end by itself.
  const up = await startUp(annex);
  await ready(env, up);
  for (const pid of await daemons(env)) killQuietly(pid, "SIGSTOP");
  up.kill("SIGTERM");
  assert.deepEqual([(await up.ended).code, await env.marked()], [0, []]);

  // One that complains when it is ended, as git does of a fetch that is cut off.
  const script = `#!/bin/sh
trap "" TERM
'${await gitAnnexOf(env, annex)}' "$@"; status=$?
if test "$1" = remotedaemon; then echo "fatal: the remote end hung up unexpectedly" >&2; fi
exit $status
`;
  await Deno.writeTextFile(join(annex.host.dir, "bin", "git-annex"), script, { mode: 0o755 });
  const last = await startUp(annex);
  await ready(env, last);
  last.kill("SIGTERM");
  await last.ended;
  assert.match(last.stdout, /\nstopping, ended by SIGTERM\n$/);
});

scenario("what up started ends within 15 s after up was killed, also what does not notice", {
  needs,
}, async (env) => {
  const annex = await makeAnnex(env);
  await annex.enable();
  // A child that outlives remotedaemon, such as git fetch from a peer that is slow.
  const script = `#!/bin/sh\nsleep 600 &\nexec '${await gitAnnexOf(env, annex)}' "$@"\n`;
  await Deno.writeTextFile(join(annex.host.dir, "bin", "git-annex"), script, { mode: 0o755 });
  const up = await startUp(annex);
  await ready(env, up);
  assert((await pidsWith(env, "sleep", "600")).length > 0);
  up.kill("SIGKILL");
  const seconds = await nothingLeft(env);
  assert(seconds < 15, `after ${seconds} s`);
});

scenario("up ends the remotedaemon that hangs since an up which was killed", {
  needs,
}, async (env) => {
  const annex = await makeAnnex(env);
  const killed = await startUp(annex);
  await ready(env, killed);
  const hanging = await daemons(env);
  for (const pid of hanging) killQuietly(pid, "SIGSTOP");
  killed.kill("SIGKILL");
  await killed.ended;
  const up = await startUp(annex);
  await ready(env, up);
  assert(!hanging.includes(await onlyOne(env)));
});

scenario("up exits with a clear message if git-annex never works", {
  needs,
  waits: true,
}, async (env) => {
  const annex = await makeAnnex(env);
  const failing = join(annex.host.dir, "failing");
  await Deno.mkdir(failing);
  const script = `#!/bin/sh
echo 'no luck
HasCallStack backtrace:
  throwM, called at Messages.hs:387:17 in git-annex-10-x:Messages
' >&2
exit 3
`;
  await Deno.writeTextFile(join(failing, "git-annex"), script, { mode: 0o755 });
  const path = { PATH: `${failing}:${annex.host.env.PATH}` };
  const run = await (await startUp(annex, { env: path })).ended;
  assert.equal(run.code, 1);
  assertOneLine(run.stderr);
  assert.match(run.stderr, /git annex p2p --enable iroh failed: no luck; run .* doctor/);

  await annex.enable();
  const again = await (await startUp(annex, { env: path })).ended;
  assert.equal(again.code, 1);
  assert.match(again.stdout, /remotedaemon has ended: no luck; starting again in 1 s\n/);
  assert.match(again.stderr, /: 4 attempts to serve have failed; .* no luck; run .* doctor\n$/);
  assert.deepEqual(await env.marked(), []);
});

scenario("up ends, with all that it started, when its repository is moved or removed", {
  needs,
}, async (env) => {
  for (const gone of ["moved", "removed"]) {
    const annex = await makeAnnex(env, gone);
    const up = await startUp(annex);
    await ready(env, up);
    if (gone === "moved") await Deno.rename(annex.path, `${annex.path} there`);
    else {
      // rm fails if a process writes a file into a folder that rm has just emptied, such as its log.
      await env.until(
        "it to be removed",
        async () => (await env.run(["rm", "-rf", annex.path])).code === 0,
      );
    }
    assert.equal((await up.ended).code, 1);
    assert.match(up.stderr, new RegExp(`the repository ${annex.path} is gone; run .* up where`));
    assert.deepEqual(await env.marked(), []);
  }
});

scenario(
  "up waits while remotedaemon, the assistant or another up serves the repository, and then takes over",
  {
    needs,
    limitMs: 90_000,
  },
  async (env) => {
    const annex = await makeAnnex(env);
    await annex.enable();
    const daemon = await annex.serve();
    const first = await startUp(annex);
    await first.says(/^git annex remotedaemon \(process \d+\) serves this repository; waiting/m);
    const second = await startUp(annex);
    await second.says(
      new RegExp(`^git-annex-p2p-iroh up \\(.+\\) \\(process ${first.pid}\\) serves`),
    );
    await daemon.end();
    await ready(env, first);
    // A remotedaemon that starts later takes over, and up does not fight for the repository.
    const later = await annex.serve();
    await env.until(
      "up to wait again",
      () => first.stdout.match(/waiting for its end/g)!.length === 2,
    );
    await onlyOne(env);
    await later.end();
    await ready(env, first, 2);
    first.kill("SIGTERM");
    await ready(env, second);
    await annex.ok(["assistant"]);
    await second.says(/^git annex assistant \(process \d+\) serves this repository/m);
    await annex.ok(["assistant", "--stop"]);
    await ready(env, second, 2);
  },
);

scenario("up serves three repositories at once", { needs, limitMs: 90_000 }, async (env) => {
  const annexes = [];
  for (const name of ["one", "two", "three"]) annexes.push(await makeAnnex(env, name));
  const ups = await Promise.all(annexes.map((annex) => startUp(annex)));
  const listeners = await Promise.all(ups.map((up) => ready(env, up)));
  ups[0]!.kill("SIGTERM");
  await ups[0]!.ended;
  await env.until("the others to go on", async () => (await daemons(env)).length === 2);
  for (const pid of listeners.slice(1)) {
    assert.match(await Deno.readTextFile(`/proc/${pid}/cmdline`), /endpoint/);
  }
});
