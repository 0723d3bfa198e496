/** The command line, and what the program prints to users who run it by hand. */

import assert from "node:assert/strict";
import config from "../deno.json" with { type: "json" };
import { scenario } from "./testenv.ts";

scenario("--help prints all calls and settings on stdout", {}, async (env) => {
  for (const option of ["--help", "-h"]) {
    const { code, stdout, stderr } = await env.iroh([option]);
    assert.deepEqual([code, stderr], [0, ""]);
    for (
      const word of [
        "Usage:",
        "address",
        "ADDRESS SOCKETFILE",
        "relay",
        "lookup",
        "bind",
        "max-connections",
        "Exit status",
      ]
    ) {
      assert(stdout.includes(word), word);
    }
    assert(stdout.split("\n").every((line) => line.length <= 80), "lines of at most 80 characters");
  }
});

scenario("--version names program and version", {}, async (env) => {
  for (const option of ["--version", "-V"]) {
    const { code, stdout, stderr } = await env.iroh([option]);
    assert.deepEqual([code, stdout, stderr], [0, `git-annex-p2p-iroh ${config.version}\n`, ""]);
  }
});

scenario(
  "on an invalid command line the program exits 2 with one line on stderr",
  {},
  async (env) => {
    const cases: [args: string[], says: RegExp][] = [
      [[], /no command; see git-annex-p2p-iroh --help/],
      [[""], /no command/],
      [["--frobnicate"], /: unknown option "--frobnicate"; see git-annex-p2p-iroh --help\n/],
      [["address", "extra"], /address takes no argument/],
      [["up", "extra"], /up takes no argument/],
      [["up", "--install", "--uninstall"], /: --install and --uninstall exclude each other; see/],
      [["up", "--json", "--status"], /: --json is not for up --status; see/],
      [["status", "--background"], /: --background is for up; see/],
      [["one", "two", "three"], /too many arguments, after "two"/],
      [["one", ""], /SOCKETFILE is empty/],
      [["frob"], /: unknown command "frob"; see git-annex-p2p-iroh --help\n/],
      [["adress"], /: unknown command "adress"; see/],
      [["pong", "endpointa"], /: unknown command "pong"; see/],
      [["unlink", "bob"], /: unknown command "unlink"; see/],
      [["invite", "bob"], /invite takes no argument/],
      [["invite", "--list", "--qr"], /: --list goes with no other option; see/],
      [["invite", "--valid", "2d"], /: --valid 2d is no time; write 15m, 1h or 1d, which/],
      [["invite", "--name", "/"], /: "\/" is no name of a git remote; use letters from A to Z/],
      [["join", "--valid", "1h"], /: --valid is for invite; see/],
      [["ping", "--yes"], /: --yes is for join; see/],
      [["join", "a", "b"], /: join takes one folder; see/],
      [["join", "a", "b", "c"], /: too many arguments, after "b"; see/],
      // Neither a command nor an address.
      [["p2p-annex::iroh:endpointa"], /"p2p-annex::iroh:endpointa" is not an address; an address/],
      [["endpointa"], /the address "endpointa" is damaged/],
    ];
    for (const [args, says] of cases) {
      const { code, stdout, stderr } = await env.iroh(args);
      assert.equal(code, 2, args.join(" "));
      assert.equal(stdout, "");
      assert.match(stderr, /^git-annex-p2p-iroh: [^\n]*\n$/);
      assert.match(stderr, says);
    }
  },
);

scenario("the debug log goes to stderr and contains no secret", {}, async (env) => {
  const on = await env.host("a");
  await env.ok(["git", "init", "-q", "repository"], { on });
  const cwd = `${on.dir}/repository`;
  const debug = { GIT_ANNEX_P2P_IROH_LOG: "debug" };
  const { code, stdout } = await env.iroh(["address"], { on, cwd, env: debug });
  assert.equal(code, 0);
  assert.match(stdout, /^endpoint[a-z2-7]+\n$/);
  const secret = (await Deno.readTextFile(`${cwd}/.git/annex/creds/iroh-secret`)).trim();
  const run = await env.iroh([stdout.trim()], { on, env: debug, stdin: "" });
  assert.equal(run.code, 1);
  assert.match(run.stderr, /git-annex-p2p-iroh\[\d+\] +[\d.]+ ms dialing/);
  assert(!run.stderr.includes(secret) && !run.stderr.includes(secret.slice(0, 16)));
});
