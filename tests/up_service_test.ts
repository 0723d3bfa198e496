/** `up` in the background, and as a service. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { launchdAgent, systemdTemplate, systemdUnit } from "../lib/supervisor/boot_files.ts";
import { Annex, ANNEX_TOOLS } from "./annex.ts";
import { makeLoopback } from "./network.ts";
import { assertOneLine, killQuietly, type Run, scenario, type TestEnv } from "./testenv.ts";
import { python, toolPath } from "./tools.ts";

const needs = [...ANNEX_TOOLS, "proc"] as const;
/** A folder's name with what files of services give a meaning. */
const ODD = `it's 100%h "odd" \\ $HOME & <more>`;

async function makeAnnex(env: TestEnv, name?: string): Promise<Annex> {
  return await Annex.make(env, (await makeLoopback(env)).a, name);
}

/** Sets in git config what the environment says, which a service does not get. */
async function configure({ env, host }: Annex): Promise<void> {
  for (const [key, value] of [["relay", "none"], ["lookup", "none"], ["lan", "false"]]) {
    await env.ok(["git", "config", "--global", `p2p-iroh.${key}`, value!], { on: host });
  }
}

function up(annex: Annex, ...args: string[]): Promise<Run> {
  return annex.env.iroh(["up", ...args], { on: annex.host, cwd: annex.path });
}

/** Returns the ids of this test's processes of git-annex and of this program. */
async function pidsOfAnnex(env: TestEnv): Promise<number[]> {
  const pids: number[] = [];
  for (const pid of await env.marked()) {
    const line = await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => ""); // it has ended
    if (/annex/.test(line)) pids.push(pid);
  }
  return pids;
}

function pidIn(text: string): number {
  return Number(/^up {8}process (\d+), /m.exec(text)![1]);
}

scenario(
  "up --background serves until it is ended, and says if it cannot",
  { needs },
  async (env) => {
    const annex = await makeAnnex(env);
    const before = await up(annex, "--status");
    assert.equal(before.code, 1);
    assert.match(before.stdout, /^up {8}none; run git-annex-p2p-iroh up$/m);
    // Only one of two that start at once stays: the check at the end would find the other one.
    const both = await Promise.all([up(annex, "--background"), up(annex, "--background")]);
    for (const run of both) assert.deepEqual([run.code, run.stderr], [0, ""]);
    const [first, other] = both[0].stdout.includes("as before") ? both.toReversed() : both;
    assert.match(other!.stdout, /, as before\n$/);
    assert.equal(pidIn(other!.stdout), pidIn(first!.stdout));
    assert.match(
      first!.stdout,
      /^up {8}process \d+, in the background, since [-\d]+ [:\d]+, serving\n/,
    );
    const log = join(annex.path, ".git/annex/p2p-iroh/up.log");
    assert(first!.stdout.endsWith(`\nlog       ${log}\n`), first!.stdout);
    await env.until(
      "the log to say it",
      async () => / ready, process \d+ serves/.test(await Deno.readTextFile(log)),
    );
    const pid = pidIn(first!.stdout);
    const second = await up(annex, "--background");
    assert.match(second.stdout, new RegExp(`^up {8}process ${pid}, .*, serving, as before\\n$`));
    const status = await up(annex, "--status");
    assert.match(
      status.stdout,
      new RegExp(`^up {8}process ${pid}, .*\nlistener {2}process \\d+\n`),
    );
    assert.equal(status.code, 0);
    const inRepository = { on: annex.host, cwd: annex.path };
    const report = JSON.parse((await env.iroh(["status", "--json"], inRepository)).stdout);
    assert.deepEqual([report.up.pid, report.up.state], [pid, "serving"]);
    const text = (await env.iroh(["status"], inRepository)).stdout;
    assert.match(
      text,
      new RegExp(`^up {8}process ${pid}, in the background, since .*, serving$`, "m"),
    );
    const doctor = (await env.iroh(["doctor"], inRepository)).stdout;
    assert.match(
      doctor,
      new RegExp(`serves this repository, kept by .* up \\(.*\\), process ${pid}\n`),
    );
    Deno.kill(pid, "SIGTERM");
    await env.until("all to end", async () => (await env.marked()).length === 0);

    const plain = join(annex.host.dir, "plain");
    await env.ok(["git", "init", "-q", plain], { on: annex.host });
    await Deno.writeTextFile(join(plain, ".git/annex"), ""); // git-annex cannot work here
    const failed = await env.iroh(["up", "--background"], { on: annex.host, cwd: plain });
    assert.deepEqual([failed.code, failed.stdout], [1, ""]);
    assertOneLine(failed.stderr);
  },
);

scenario("up --install prints a line for cron that works if there is no systemd and no launchd", {
  needs,
}, async (env) => {
  const annex = await makeAnnex(env, ODD);
  const refused = await up(annex, "--install");
  assert.equal(refused.code, 1);
  assert.match(
    refused.stderr,
    /: .* settings: \w+_RELAY, \w+_LOOKUP, \w+_LAN; set them in git config/,
  );
  await configure(annex);
  const { code, stdout } = await up(annex, "--install");
  assert.equal(code, 0);
  const line = /^@reboot (.*)$/m.exec(stdout)![1]!;
  // cron takes the backslash before a percent sign away (crontab(5)).
  const command = ["/bin/sh", "-c", line.replaceAll("\\%", "%")];
  const { host } = annex;
  const text = await env.ok(command, { on: host, cwd: host.dir, env: { PATH: "/usr/bin:/bin" } });
  Deno.kill(pidIn(text), "SIGTERM");
  await env.until("all to end", async () => (await env.marked()).length === 0);
});

scenario("up --install makes a systemd unit that serves, and --uninstall removes it", {
  needs: [...needs, "systemd"],
  limitMs: 90_000,
}, async (env) => {
  const annex = await makeAnnex(env, ODD);
  const { host } = annex;
  await env.start(["unshare", "-m", "sh", toolPath("systemd_user.sh")], { on: host });
  const systemctl = ["systemctl", "--user"];
  await env.until(
    "systemd to run",
    async () => (await env.run([...systemctl, "show-environment"], { on: host })).code === 0,
  );

  await configure(annex);
  const installed = await up(annex, "--install");
  assert.deepEqual([installed.code, installed.stderr], [0, ""]);
  assert.match(installed.stdout, /^up {8}process \d+, systemd, since .*, serving$/m);
  assert.match(installed.stdout, /run loginctl enable-linger/);
  const [path] = /^\/.*\.service(?=:$)/m.exec(installed.stdout)!;
  const unit = await Deno.readTextFile(path);
  assert(installed.stdout.includes(unit));
  const status = await up(annex, "--status");
  assert.match(status.stdout, /^service {3}git-annex-p2p-iroh-it_s_100_h__odd_.*: active$/m);

  // systemd starts it again if it is killed, here at once.
  await Deno.mkdir(`${path}.d`);
  await Deno.writeTextFile(join(`${path}.d`, "fast.conf"), "[Service]\nRestartSec=0\n");
  await env.ok([...systemctl, "daemon-reload"], { on: host });
  const pid = pidIn(status.stdout);
  killQuietly(pid, "SIGKILL");
  await env.until("up to run again", async () => {
    const { stdout } = await up(annex, "--status");
    return /, serving$/m.test(stdout) && pidIn(stdout) !== pid;
  });
  assert.match((await up(annex, "--install")).stdout, /^up {8}process \d+, systemd, .*, serving$/m);

  const removed = await up(annex, "--uninstall");
  assert.match(removed.stdout, /\.service is removed$/m);
  assert.equal(await Deno.stat(path).then(() => true, () => false), false);
  assert.deepEqual(await pidsOfAnnex(env), []);
  assert.match((await up(annex, "--uninstall")).stdout, /\.service is not installed$/m);
  assert.match((await up(annex, "--status")).stdout, /^service {3}.*: not installed$/m);
});

scenario("systemd finds no fault in the units, whatever the names", {
  needs: ["systemd-analyze"],
}, async (env) => {
  const host = await env.host("host");
  const program = join(host.dir, "100%h $HOME & <more>");
  await Deno.writeTextFile(program, "#!/bin/sh\n", { mode: 0o755 });
  const units = new Map([
    ["odd", systemdUnit({ folder: join(host.dir, ODD), path: `/bin:/${ODD}`, program })],
    ["template@", systemdTemplate()],
  ]);
  for (const [name, text] of units) {
    const path = join(host.dir, `${name}.service`);
    await Deno.writeTextFile(path, text);
    const run = await env.run(["systemd-analyze", "--user", "verify", path], { on: host });
    assert.deepEqual([run.code, run.stdout + run.stderr], [0, ""]);
  }
});

scenario("the agent for launchd is a property list with what it was made from", {}, async (env) => {
  const host = await env.host("host");
  const file = join(host.dir, "agent.plist");
  const options = { folder: `/${ODD}`, path: `/bin:/${ODD}`, program: `/p/${ODD}` };
  await Deno.writeTextFile(file, launchdAgent("name", options));
  const agent = JSON.parse(await env.ok(python("plist_to_json.py", file), { on: host }));
  assert.deepEqual(agent, {
    Label: "name",
    ProgramArguments: [options.program, "up"],
    WorkingDirectory: options.folder,
    EnvironmentVariables: { PATH: options.path },
    RunAtLoad: true,
    KeepAlive: true,
    ExitTimeOut: 20,
  });
});
