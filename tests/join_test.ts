/** `invite` and `join` link two repositories of real git-annex, each of a user of its own. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Annex, ANNEX_TOOLS } from "./annex.ts";
import { LAN } from "./lan.ts";
import { makeLoopback, makeNetwork, makeNetworkOf, startRelay } from "./network.ts";
import {
  assertNoSecretShown,
  assertRemote,
  CODE,
  invite,
  isGone,
  joinKeyOf,
  listenerOf,
  pathOf,
  remotesOf,
  replaceGitAnnex,
  startJoin,
  stopFetchesOf,
  stopGitAnnexAt,
  tokensOf,
} from "./pairing.ts";
import { randomBytes } from "./pair.ts";
import { readQrCode } from "./qr_picture.ts";
import { assertOneLine, killQuietly, scenario } from "./testenv.ts";
import { python } from "./tools.ts";

const needs = [...ANNEX_TOOLS, "proc"] as const;

/** Maximum time from `invite` to two linked repositories, in seconds. */
const MAX_PAIRING_S = 8;

scenario(
  "join: on a LAN without internet, a new folder is linked and has the inviter's branch within 8 s",
  { needs: [...needs, "namespaces"], limitMs: 120_000, takesTurns: true },
  async (env) => {
    const { a, b, c } = await makeNetworkOf(env, "lan", ["a", "b", "c"]);
    for (const host of [a, b, c]) Object.assign(host.env, LAN);
    const ann = await Annex.make(env, a);
    await ann.write("photo", randomBytes(50_000));
    await ann.add();
    await ann.ok(["adjust", "--unlock", "--quiet"]);
    const special = ["type=directory", `directory=${a.dir}`, "encryption=none", "autoenable=true"];
    await ann.ok(["initremote", "usb stick", ...special]);

    const begin = performance.now();
    const { started, code } = await invite(ann, "--qr");
    const joining = await startJoin(env, b, code, ["photos"]);
    await Promise.all([started.says(/^joined /m), joining.says(/^linked /m)]);
    const seconds = (performance.now() - begin) / 1000;
    assert(seconds < MAX_PAIRING_S, `linked after ${seconds} s`);
    const [invited, joined] = await Promise.all([started.ended, joining.ended]);
    assert.deepEqual([invited.code, joined.code], [0, 0]);
    assert.deepEqual([invited.stderr, joined.stderr], ["", ""]);

    const bob = new Annex(env, b, join(b.dir, "photos"));
    await assertRemote(ann, "b");
    await assertRemote(bob, "a");
    assert.match(
      joined.stdout,
      /^The inviter gets access to \S*\/photos, as you get to theirs\.$/m,
    );
    assert.match(joined.stdout, /^up {8}process \d+ serves it; its log is .*\/up\.log$/m);
    assert.match(
      joined.stdout,
      /^linked {4}it is the remote a here; this repository is the remote b there$/m,
    );
    assert.match(joined.stdout, /^special .*: usb stick$/m);
    assert.match(joined.stdout, /^next {6}cd photos && git annex sync --content a$/m);
    assert.match(invited.stdout, /^joining {3}b\njoined {4}it is the remote b\n/m);
    const drawn = new TextDecoder().decode(invited.stdoutBytes).split("\n")
      .filter((line) => /^[ ▀▄█]+$/.test(line));
    assert.equal(readQrCode(drawn), code.toUpperCase());

    // The branch that the inviter's adjusts is checked out, and its special remote is not enabled.
    assert.equal((await bob.gitOk(["symbolic-ref", "--short", "HEAD"])).trim(), "main");
    assert.deepEqual(await remotesOf(bob), ["a"]);
    await bob.ok(["get", "photo"]);
    assert.equal(await bob.checksum("photo"), await ann.checksum("photo"));

    // It works once. Nothing is left of another one's attempt.
    const other = await (await startJoin(env, c, code, ["photos"])).ended;
    assert.equal(other.code, 1);
    assert.match(other.stderr, /\/photos is removed again\n.*: the invitation is not valid/);
    assert(await isGone(join(c.dir, "photos")));
    assert.deepEqual(await remotesOf(ann), ["usb stick", "b"].toSorted());
  },
);

scenario(
  "join: through a relay, repositories that exist are linked under free names, without a daemon",
  { needs: [...needs, "iroh-relay", "namespaces"], limitMs: 120_000 },
  async (env) => {
    const { a, b, relay } = await makeNetwork(env, "relay only");
    const { url } = await startRelay(env, relay);
    for (const host of [a, b]) host.env.GIT_ANNEX_P2P_IROH_RELAY = url;
    const [ann, bob] = [await Annex.make(env, a), await Annex.make(env, b)];
    for (const annex of [ann, bob]) {
      await annex.write(`of ${annex.host.name}`, randomBytes(1000));
      await annex.add();
      for (const name of ["a", "b", "B2"]) await annex.gitOk(["remote", "add", name, "/nowhere"]);
    }
    await ann.gitOk(["config", "annex.cost", "175"]);
    const { started, code } = await invite(ann, "--name", "b");
    assert(code.length <= 100 + 1.6 * url.length);

    const refused = await (await startJoin(env, b, code, [], { cwd: bob.path })).ended;
    assert.equal(refused.code, 2);
    assertOneLine(refused.stderr);
    assert.match(refused.stderr, /access to .*, and there is no terminal to ask you; .* --yes/);

    // On a terminal, the user is asked.
    const asking = await env.start(
      python(
        "type_on_terminal.py",
        "git-annex-p2p-iroh",
        "join",
        "--no-daemon",
        code.toUpperCase(),
      ),
      { on: b, cwd: bob.path, stdin: "open" },
    );
    await asking.says(/other users of this host may have seen the invitation/);
    await asking.says(/Go on\? \[y\/N\]/);
    await asking.write("y\n");
    const joined = await asking.ended;
    assert.equal((await started.ended).code, 0);
    assert.equal(joined.code, 0);
    assert.match(joined.stdout, /git annex sync --allow-unrelated-histories a2/);
    await assertRemote(ann, "b3", ""); // the user has set annex.cost
    await assertRemote(bob, "a2");
    const running = await env.marked();
    const ofBob = await Promise.all(running.map(async (pid) => {
      const environ = await Deno.readTextFile(`/proc/${pid}/environ`).catch(() => "");
      return environ.includes(`HOME=${b.dir}/`);
    }));
    assert(!ofBob.includes(true), "nothing serves b");

    // A repository that is linked is left alone, and the next invitation stays good.
    const next = await invite(ann, "--detach");
    const again = await (await startJoin(env, b, next.code, ["--yes"], { cwd: bob.path })).ended;
    assert.equal(again.code, 0);
    assert.match(again.stdout, /^linked {4}already, as the remote a2$/m);
    const listed = await env.run(["git-annex-p2p-iroh", "invite", "--list"], {
      on: a,
      cwd: ann.path,
    });
    assert.match(listed.stdout, /^[0-9a-f]{8} {2}open, until .*, detached$/m);
  },
);

scenario(
  "join: on one host, an invitation that is wrong, used, withdrawn or expired leaves nothing",
  { needs, limitMs: 120_000 },
  async (env) => {
    const { a, b } = await makeLoopback(env);
    b.env.XDG_RUNTIME_DIR = a.env.XDG_RUNTIME_DIR!; // they find each other
    const ann = await Annex.make(env, a); // without a commit
    const run = async (args: readonly string[], code: string) =>
      await (await startJoin(env, b, code, args)).ended;
    const short = await invite(ann, "--valid", "5s", "--detach");
    const good = await invite(ann, "--detach");
    const other = await invite(ann, "--detach");
    const option = await other.started.says(/--withdraw [0-9a-f]{8}/);
    const withdrawn = await env.ok(["git-annex-p2p-iroh", "invite", ...option.split(" ")], {
      on: a,
      cwd: ann.path,
    });
    assert.match(withdrawn, /^withdrawn [0-9a-f]{8}\n$/);

    const mistyped = await run(["x"], good.code.replace(/.$/, (last) => last === "0" ? "1" : "0"));
    assert.match(mistyped.stderr, /a typing mistake in the invitation/);
    for (const text of ["endpointabc", "hello"]) {
      assert.match((await run(["x"], text)).stderr, /not an invitation/);
    }
    const over = await run(["x"], other.code);
    assert.match(over.stderr, /the invitation is not valid, or no longer/);
    assert(await isGone(join(b.dir, "x")));
    const own = await (await startJoin(env, a, good.code, ["--yes"], { cwd: ann.path })).ended;
    assert.match(own.stderr, /this invitation is of this repository itself/);

    const onlyGit = join(b.dir, "only-git"), program = join(b.dir, "bin", "git-annex-p2p-iroh");
    await Deno.mkdir(onlyGit);
    await Deno.symlink(await pathOf("git"), join(onlyGit, "git"));
    for (const [missing, PATH] of [["git-annex", onlyGit], ["git", "/nonexistent"]] as const) {
      const stdin = `${good.code}\n`;
      const { stderr } = await env.run([program, "join", "x"], { on: b, stdin, env: { PATH } });
      assert.match(
        stderr,
        new RegExp(`/x is removed again\n.*: ${missing} is not on PATH; install`),
      );
      assert(await isGone(join(b.dir, "x")));
    }

    // Two at once: one gets in.
    const wrapped = `${good.code.slice(0, 76)}\n ${good.code.slice(76)}`; // as mail breaks lines
    const both = await Promise.all(["one", "two"].map((folder) => run([folder], wrapped)));
    assert.deepEqual(both.map(({ code }) => code).toSorted(), [0, 1]);
    const folder = both[0]!.code === 0 ? "one" : "two";
    assert(await isGone(join(b.dir, folder === "one" ? "two" : "one")));
    const bob = new Annex(env, b, join(b.dir, folder));
    assert.deepEqual([await remotesOf(ann), await remotesOf(bob)], [["b"], ["a"]]);
    assert.deepEqual([await tokensOf(ann), await tokensOf(bob)], [1, 1]);
    assert.equal((await bob.gitOk(["symbolic-ref", "--short", "HEAD"])).trim(), "main");

    await env.until("the invitation to expire", async () => {
      const { stdout } = await env.run(["git-annex-p2p-iroh", "invite", "--list"], {
        on: a,
        cwd: ann.path,
      });
      return !stdout.includes("open");
    });
    assert.match((await run(["y"], short.code)).stderr, /the invitation is not valid/);

    // A bare repository, as git-annex syncs it.
    await ann.write("photo", randomBytes(1000));
    await ann.add();
    const hub = new Annex(env, a, join(a.dir, "hub.git"));
    await env.ok(["git", "init", "-q", "--bare", hub.path], { on: a });
    await hub.ok(["init", "--quiet", "hub"]);
    await ann.gitOk(["push", "-q", hub.path, "main:synced/main"]);
    assert.equal((await run(["from-hub"], (await invite(hub, "--detach")).code)).code, 0);
    const clone = new Annex(env, b, join(b.dir, "from-hub"));
    assert.equal(await clone.gitOk(["ls-files"]), "photo\n");

    // A terminal that would break the lines of a QR code shows the text alone.
    const command = "stty cols 40; exec git-annex-p2p-iroh invite --qr --detach";
    const narrow = await env.start(python("type_on_terminal.py", "sh", "-c", command), {
      on: a,
      cwd: ann.path,
      stdin: "open",
    });
    assert.equal((await narrow.ended).code, 0);
    assert.match(narrow.stdout, CODE);
    const unfit = /: the QR code needs 4\d columns, and this terminal has 40; use the text above/;
    assert.match(narrow.stdout, unfit);
    assert.doesNotMatch(narrow.stdout, /\P{ASCII}/u);

    // Ctrl-C withdraws an invitation.
    const waiting = await invite(ann);
    waiting.started.kill("SIGINT");
    assert.equal((await waiting.started.ended).code, 130);
    assert.match(waiting.started.stderr, /the invitation is withdrawn/);
    assert.match((await run(["y"], waiting.code)).stderr, /the invitation is not valid/);
    assert(await isGone(join(b.dir, "y")));
  },
);

/** The commands of git-annex in which a side is killed, in their order: the joiner `b`, or the listener of `a`. */
const FIRST_STEPS = [["b", "init --no-autoenable"], ["b", "p2p --enable"]] as const;
const NEXT_STEPS = [
  ["a", "p2p --gen-addresses"],
  ["b", "p2p --gen-addresses"],
  ["a", "p2p --link"],
  ["b", "p2p --link"],
] as const;

scenario(
  "join: each side killed at each step, or its git-annex failing, the same invitation completes it",
  { needs, limitMs: 120_000, waits: true },
  async (env) => {
    const { a, b } = await makeLoopback(env);
    b.env.XDG_RUNTIME_DIR = a.env.XDG_RUNTIME_DIR!;
    const ann = await Annex.make(env, a);
    await ann.write("photo", randomBytes(50_000));
    await ann.add();
    const { code } = await invite(ann, "--detach");
    const startAgain = () => startJoin(env, b, code, ["photos"]);
    let joining = await startAgain();
    const killAt = async (side: "a" | "b", step: string) => {
      await using stopped = await stopGitAnnexAt(side === "a" ? a : b, step);
      await env.until(`git annex ${step}`, async () => {
        if (joining.code !== undefined) joining = await startAgain();
        return await stopped.isReached();
      });
      // up starts the listener again; the joiner notices after 15 s that one was killed.
      if (side === "b") joining.kill("SIGKILL");
      else killQuietly(await listenerOf(ann), step === "p2p --link" ? "SIGKILL" : "SIGTERM");
    };
    for (const [side, step] of FIRST_STEPS) await killAt(side, step);
    {
      await using _ = await replaceGitAnnex(a, "p2p --gen-addresses", "echo no luck >&2; exit 1");
      const { code: exitStatus, stderr } = await (await startAgain()).ended;
      assert.equal(exitStatus, 1);
      assert.match(
        stderr,
        /: not complete; .*\n.*: the other side could not do its part: .*no luck/,
      );
    }
    for (const [side, step] of NEXT_STEPS) await killAt(side, step);
    const bob = new Annex(env, b, join(b.dir, "photos"));
    {
      await using _ = await replaceGitAnnex(b, "p2p --link", "echo no luck >&2; exit 1");
      const { code: exitStatus, stderr } = await (await startAgain()).ended;
      assert.equal(exitStatus, 1);
      assert.match(
        stderr,
        /: not complete; run the same command .*\n.*: git annex p2p --link failed: no luck\n$/,
      );
      assert.deepEqual(await remotesOf(bob), []);
    }
    {
      // It is killed when both are linked and nothing is fetched, twice. After the second time, it seems not to know
      // that it is linked, as if it had been killed a moment earlier.
      const key = await joinKeyOf(bob), secret = await Deno.readFile(key);
      await using fetches = await stopFetchesOf(b);
      const killAtFetch = () =>
        env.until("the fetch", async () => {
          if (joining.code !== undefined) joining = await startAgain();
          return await fetches.isReached();
        });
      for (let i = 0; i < 2; i++) {
        await killAtFetch();
        assert(await isGone(key));
        joining.kill("SIGKILL");
        await fetches.release();
        await joining.ended;
        joining = await startAgain();
      }
      await killAtFetch();
      joining.kill("SIGKILL");
      await joining.ended;
      // Another join there that fails ends nothing.
      const listener = await listenerOf(bob), own = (await invite(bob, "--detach")).code;
      const failed = await (await startJoin(env, b, own, ["photos"])).ended;
      assert.match(failed.stderr, /\/photos is in use, and stays\n.*: this invitation is of this/);
      assert.equal(await listenerOf(bob), listener);
      await Deno.writeFile(key, secret, { mode: 0o600 });
    }
    joining = await startAgain();
    const { code: exitStatus, stdout, stderr } = await joining.ended;
    assert.deepEqual([exitStatus, stderr], [0, ""]);
    assert.match(stdout, /^linked {4}it is the remote a here$/m);
    assert.match(stdout, /^branch {4}main is checked out$/m);
    assert.deepEqual([await remotesOf(ann), await remotesOf(bob)], [["b"], ["a"]]);
    await assertRemote(ann, "b");
    await assertRemote(bob, "a");
    assert.deepEqual([await tokensOf(ann), await tokensOf(bob)], [1, 1]);
    await bob.ok(["get", "photo"]);
  },
);

scenario(
  "join: given up, or killed and never completed, it leaves no remote and no repository",
  { needs, limitMs: 120_000 },
  async (env) => {
    const { a, b } = await makeLoopback(env);
    b.env.XDG_RUNTIME_DIR = a.env.XDG_RUNTIME_DIR!;
    const ann = await Annex.make(env, a);
    await using cleanup = new AsyncDisposableStack();
    const stopped = cleanup.use(await stopGitAnnexAt(b, "p2p --link"));
    const folder = join(b.dir, "photos");
    for (const signal of ["SIGINT", "SIGKILL"] as const) {
      const { started, code } = await invite(ann);
      const joining = await startJoin(env, b, code, ["photos"]);
      await env.until("the join to be half done", stopped.isReached);
      assert.deepEqual(await remotesOf(ann), ["b"]);
      await assertNoSecretShown(env, [ann, new Annex(env, b, folder)], code);
      joining.kill(signal);
      const { code: exitStatus, stderr } = await joining.ended;
      if (signal === "SIGINT") {
        assert.equal(exitStatus, 130);
        assert.match(stderr, /\/photos is removed again; the invitation is used up/);
        const invited = await started.ended;
        assert.equal(invited.code, 1);
        assert.match(invited.stderr, /: the invitation is over, .* given up: interrupted there; /);
      } else {
        await stopped.release();
        const withdraw = ["git-annex-p2p-iroh", "invite", "--withdraw", "all"];
        await env.ok(withdraw, { on: a, cwd: ann.path });
        const invited = await started.ended;
        assert.equal(invited.code, 1);
        assert.match(invited.stderr, /it was withdrawn; the joiner's remote is removed again/);
        assert.match(invited.stderr, /: the joiner keeps the token that it got; /);
        const again = await (await startJoin(env, b, code, ["photos"])).ended;
        assert.match(again.stderr, /\/photos is removed again\n.*: the invitation is not valid/);
      }
      assert.deepEqual(await remotesOf(ann), []);
      assert(await isGone(folder));
      await stopped.release();
    }
    // The token of the first one was given to the second.
    assert.equal(await tokensOf(ann), 1);

    // One that was killed in a repository that exists leaves a remote. The next invitation completes it.
    await ann.write("photo", randomBytes(1000));
    await ann.add();
    const bob = await Annex.make(env, b);
    await bob.gitOk(["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    const first = await startJoin(env, b, (await invite(ann)).code, ["--yes"], { cwd: bob.path });
    await env.until("the join to be half done", stopped.isReached);
    first.kill("SIGKILL");
    await first.ended;
    await cleanup.disposeAsync();
    const address = await env.ok(["git-annex-p2p-iroh", "address"], { on: a, cwd: ann.path });
    await bob.gitOk(["remote", "add", "a", `p2p-annex::iroh:${address.trim()}`]);
    const { started, code } = await invite(ann);
    const second = await (await startJoin(env, b, code, ["--yes"], { cwd: bob.path })).ended;
    assert.equal(second.code, 0);
    assert.match(second.stdout, /^branch {4}trunk here and main there, .* git checkout main$/m);
    assert.equal((await started.ended).code, 0);
    await env.ok(["git-annex-p2p-iroh", "invite", "--withdraw", "all"], { on: a, cwd: ann.path });
    await assertRemote(ann, "b");
    await assertRemote(bob, "a");
    assert.equal(await tokensOf(ann), 2); // that of the first invitation, which was still valid
  },
);
