/** What a release contains beside the program works with the programs that it is for. */

import assert from "node:assert/strict";
import { basename, dirname, join } from "node:path";
import config from "../deno.json" with { type: "json" };
import { bootAdvice, cronLine, launchdAgent, systemdUnit } from "../lib/doctor/boot.ts";
import { CALLS, OPTIONS, SETTINGS } from "../lib/console/manual.ts";
import { PROGRAM } from "../lib/console/program.ts";
import { extras } from "../tasks/extras.ts";
import { thirdPartyLicenses } from "../tasks/licenses.ts";
import { Annex, ANNEX_TOOLS } from "./annex.ts";
import { killQuietly, scenario, type TestEnv } from "./testenv.ts";
import { python } from "./tools.ts";

/** Writes one of the extras. @returns Its path. */
async function written(env: TestEnv, name: string): Promise<string> {
  const path = join((await env.host("host")).dir, name);
  await Deno.mkdir(dirname(path), { recursive: true });
  await Deno.writeTextFile(path, extras().get(name)!);
  return path;
}

scenario("the man page is valid, and explains every call, option and setting", {
  needs: ["groff"],
}, async (env) => {
  const page = await written(env, `${PROGRAM}.1`);
  const run = await env.run(["groff", "-man", "-ww", "-Tascii", "-P-cbou", page]);
  assert.deepEqual([run.code, run.stderr], [0, ""]);
  const text = run.stdout.replaceAll(/\s+/g, " ");
  for (const { term } of [...CALLS, ...OPTIONS, ...SETTINGS]) assert(text.includes(term), term);
});

scenario("completion in bash", { needs: ["bash"] }, async (env) => {
  const file = await written(env, `completions/${PROGRAM}.bash`);
  const complete = async (...words: string[]) => {
    const script = `. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _git_annex_p2p_iroh
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const out = await env.ok(["bash", "-c", script, file, PROGRAM, ...words]);
    return out.split("\n").filter((line) => line).toSorted();
  };
  assert.deepEqual(await complete(""), ["address", "doctor", "ping", "status"]);
  assert.deepEqual(await complete("do"), ["doctor"]);
  assert.deepEqual(await complete("ping", "--c"), ["--count"]);
  assert((await complete("endpointx", "comp")).includes("completions")); // a file in the folder
});

scenario("completion in fish", { needs: ["fish"] }, async (env) => {
  const file = await written(env, `completions/${PROGRAM}.fish`);
  const complete = async (line: string) => {
    const out = await env.ok(["fish", "-c", `source $argv[1]; complete -C $argv[2]`, file, line]);
    return out.split("\n").filter((line) => line).map((line) => line.split("\t")[0]).toSorted();
  };
  assert.deepEqual(await complete(`${PROGRAM} `), ["address", "doctor", "ping", "status"]);
  assert.deepEqual(await complete(`${PROGRAM} --h`), ["--help"]);
});

scenario("completion in zsh", { needs: ["zsh"] }, async (env) => {
  const file = await written(env, `completions/_${PROGRAM}`);
  // Completes on a pseudo-terminal, and prints the line that comes of it.
  const script = `
    zmodload zsh/zpty
    zpty z zsh -f -i
    zpty -w z 'PS1=; unsetopt zle_bracketed_paste; fpath=('\${(q)1:h}' $fpath); autoload -U compinit; compinit -u -D; print READY'
    zpty -r z line '*READY*READY*'
    zpty -n -w z '${PROGRAM} do'$'\\t'
    zpty -r z line '*doctor*'
    print -r -- "$line"`;
  const run = await env.run(["zsh", "-f", "-c", script, "zsh", file]);
  assert.match(run.stdout, /doctor/);
});

/**
 * Runs a command that must start remotedaemon. When the daemon is killed, the command must end, too, so that
 * the system starts it again.
 */
async function serves(env: TestEnv, annex: Annex, command: string[], PATH: string): Promise<void> {
  const before = (await annex.log()).length;
  const started = await env.start(command, { on: annex.host, cwd: annex.path, env: { PATH } });
  await annex.serving(before);
  assert.equal(started.code, undefined);
  for (const pid of await env.marked()) {
    const args = (await Deno.readTextFile(`/proc/${pid}/cmdline`)).split("\0");
    if (args.includes("remotedaemon") && basename(args[0]!) === "git-annex") {
      killQuietly(pid, "SIGKILL");
    }
  }
  await env.until("the command to end", () => hasEnded(started.pid));
}

/** Tells whether a child has ended; its status is not collected while another process has its stdout. */
async function hasEnded(pid: number): Promise<boolean> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`).catch(() => "State: gone");
  return /^State:\s+(Z|gone)/m.test(status);
}

scenario("the unit of systemd and the agent of launchd start remotedaemon, and notice its end", {
  needs: [...ANNEX_TOOLS, "namespaces", "proc"],
  limitMs: 90_000,
}, async (env) => {
  const host = await env.host("host");
  const annex = await Annex.make(env, host);
  await annex.enable();
  const path = host.env.PATH!;

  const unit = systemdUnit(annex.path, path);
  assert.match(unit, new RegExp(`^WorkingDirectory=${annex.path}$`, "m"));
  assert.match(unit, new RegExp(`^Environment="PATH=${path}"$`, "m"));
  // In a unit, two dollar signs stand for one (systemd.service(5)).
  const exec = /^ExecStart=\/bin\/sh -c '(.*)'$/m.exec(unit)![1]!.replaceAll("$$", "$");
  await serves(env, annex, ["/bin/sh", "-c", exec], path);

  const file = join(host.dir, "agent.plist");
  await Deno.writeTextFile(file, launchdAgent("name", annex.path, `${path}:/a&b<c>`));
  const agent = JSON.parse(await env.ok(python("plist_to_json.py", file), { on: host }));
  assert.deepEqual([agent.Label, agent.WorkingDirectory], ["name", annex.path]);
  assert.equal(agent.EnvironmentVariables.PATH, `${path}:/a&b<c>`);
  await serves(env, annex, agent.ProgramArguments, path);
});

scenario("the line for cron starts remotedaemon in a folder of any name", {
  needs: [...ANNEX_TOOLS, "namespaces", "proc"],
  limitMs: 90_000,
}, async (env) => {
  const host = await env.host("host");
  const annex = await Annex.make(env, host, "it's 100% mine");
  await annex.enable();
  const line = cronLine(annex.path, host.env.PATH!);
  assert.match(line, /^@reboot /);
  // A percent sign must be escaped by a backslash, which cron removes (crontab(5)).
  const command = line.slice("@reboot ".length).replaceAll("\\%", "%");
  await env.start(["/bin/sh", "-c", command], {
    on: host,
    cwd: host.dir,
    env: { PATH: "/usr/bin:/bin" },
  });
  await annex.serving();
});

Deno.test("a release contains the license of every package that the program imports", async () => {
  const text = await thirdPartyLicenses();
  const ofTests = ["fast-check", "@cfworker/json-schema"];
  for (const name of Object.keys(config.imports)) {
    assert.equal(text.includes(`${name} `) || text.includes(`(${name})`), !ofTests.includes(name));
  }
  assert.match(text, /^thunky \d[\d.]*, MIT\n-+\n\n.*MIT.*\n\nCopyright.* Mathias Buus/m);
  assert.match(text, /^Copyright .* the Deno authors\n\nPermission is hereby granted/m);
  assert.match(text, /^Copyright .* N0, INC\.\n\nPermission is hereby granted/m);
  assert.doesNotMatch(text, /undefined|\r/);
});

Deno.test("the unit of systemd takes a PATH with spaces and quotes", () => {
  const unit = systemdUnit("/a", '/mnt/c/Program Files:/"odd"');
  assert.match(unit, /^Environment="PATH=\/mnt\/c\/Program Files:\/\\"odd\\""$/m);
});

Deno.test({
  name: "doctor's advice on starting at boot names the repository, and has a unit per repository",
  ignore: Deno.build.os !== "linux",
  fn() {
    const advice = bootAdvice("/home/ann/100% annex", "/bin");
    assert.match(advice, /git-annex-remotedaemon-100__annex\.service/);
    assert.match(advice, /^WorkingDirectory=\/home\/ann\/100%% annex$/m);
    assert.match(advice, /^@reboot cd '\/home\/ann\/100\\% annex'/m);
  },
});
