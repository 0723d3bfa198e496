/** The real git-annex on two hosts, with the commands that people use. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Annex, ANNEX_TOOLS, linkBoth, makeAnnexes, makeLinked, syncUntilSame } from "./annex.ts";
import { addRule, removeRules } from "./faults.ts";
import { freePort, makeNetwork, startRelay } from "./network.ts";
import { checksumOf, echo, FakeAnnex, randomBytes } from "./pair.ts";
import { decodeTicket } from "../lib/repository/ticket.ts";
import { killQuietly, scenario, type TestEnv } from "./testenv.ts";
import { python, toolPath } from "./tools.ts";

const needs = ANNEX_TOOLS;
/** Number of runs of the long session, each with new repositories. */
const REPEAT = Number(Deno.env.get("GIT_ANNEX_P2P_IROH_REPEAT") ?? 1);

/** Writes files of random content. @returns Their checksums by name. */
async function writeFiles(
  annex: Annex,
  prefix: string,
  lengths: readonly number[],
): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const [i, length] of lengths.entries()) {
    const content = randomBytes(length), name = `${prefix}-${i}`;
    await annex.write(name, content);
    files.set(name, await checksumOf(content));
  }
  await annex.add();
  return files;
}

for (let i = 1; i <= REPEAT; i++) {
  scenario(`git-annex ${i}: sync --content both ways, 50 files and one of 30 MB`, {
    needs,
    limitMs: 240_000,
  }, async (env) => {
    const { a, b } = await makeLinked(env);
    const lengths = Array.from({ length: 25 }, (_, i) => 1000 * i + 1);
    const files = await writeFiles(a, "from-a", [...lengths, 30_000_000]);
    await syncUntilSame(env, a, b, files);
    for (const [name, sum] of await writeFiles(b, "from-b", lengths)) files.set(name, sum);
    await syncUntilSame(env, a, b, files);
  });
}

scenario("git-annex: copy, get, drop and move", { needs, limitMs: 180_000 }, async (env) => {
  const { a, b } = await makeLinked(env);
  const files = await writeFiles(a, "file", [1, 70_000, 3_000_000]);
  const names = [...files.keys()];
  await env.until("the names to be there, too", async () => {
    await a.run(["sync", "--no-content"]);
    await b.run(["sync", "--no-content"]);
    return (await b.run(["find", "--anything"])).stdout.trim().split("\n").length === names.length;
  });
  const allAt = async (annex: Annex) => (await Promise.all(names.map((n) => annex.has(n))));

  await a.ok(["copy", "--to=b", "."]);
  assert.deepEqual(await allAt(b), names.map(() => true));
  for (const [name, sum] of files) assert.equal(await b.checksum(name), sum);

  await a.ok(["drop", "."]); // which asks b whether it has a copy
  assert.deepEqual(await allAt(a), names.map(() => false));

  await a.ok(["get", "-J4", "."]);
  for (const [name, sum] of files) assert.equal(await a.checksum(name), sum);

  await b.ok(["move", "--to=a", "."]);
  assert.deepEqual(await allAt(b), names.map(() => false));
  await b.ok(["move", "--from=a", "."]);
  assert.deepEqual([await allAt(a), await allAt(b)], [
    names.map(() => false),
    names.map(() => true),
  ]);
  const refused = await b.run(["drop", names[0]!]); // the only copy
  assert.notEqual(refused.code, 0);
  for (const [name, sum] of files) assert.equal(await b.checksum(name), sum);
});

scenario("git-annex: get -J8 through a fresh connection", {
  needs,
  limitMs: 120_000,
}, async (env) => {
  const { a, b } = await makeAnnexes(env);
  await a.serve();
  await b.link(a.host.name, await a.addresses());
  const files = await writeFiles(a, "job", Array<number>(16).fill(20_000));
  await env.until("the names of the files to be here", async () => {
    await b.run(["sync", "--no-content"]);
    return (await b.run(["find", "--anything"])).stdout.trim().split("\n").length === files.size;
  });
  // remotedaemon would connect at once, so that the connection was no longer fresh.
  const on = { on: b.host, cwd: b.path };
  const address = (await env.ok(["git-annex-p2p-iroh", "address"], on)).trim();
  const fakeAnnex = new FakeAnnex(env, join(b.host.dir, "socket"), echo);
  const listener = await env.start(["git-annex-p2p-iroh", address, fakeAnnex.path], on);
  await listener.says(/serving endpoint/);
  const before = (await a.log()).length;
  await b.ok(["get", "-J8", "--quiet", "."]);
  for (const [name, sum] of files) assert.equal(await b.checksum(name), sum);
  const key = decodeTicket(address).publicKey.toHex();
  const session = new RegExp(`${key.slice(0, 10)} .* connected`, "g");
  let log = "";
  await env.until("the log to tell of eight sessions", async () => {
    log = (await a.log()).slice(before);
    return log.match(session)?.length === 8;
  });
  assert.doesNotMatch(log, /refused|turned away/);
});

/** What passes of a transfer that stands still then: more than is to arrive, and less than the file. */
const QUOTA_BYTES = 15_000_000;

scenario("git-annex resumes an interrupted transfer", {
  needs: [...needs, "namespaces", "iptables", "proc"],
  limitMs: 180_000,
}, async (env) => {
  const { a, b } = await makeLinked(env);
  const length = 30_000_000;
  const files = await writeFiles(a, "big", [length]);
  await env.until("the name to be there, too", async () => {
    await a.run(["sync", "--no-content"]);
    await b.run(["sync", "--no-content"]);
    return (await b.run(["find", "--anything"])).stdout.trim() === "big-0";
  });
  const tmp = join(b.path, ".git", "annex", "tmp");
  const received = async () => {
    let bytes = 0;
    try {
      for await (const { name } of Deno.readDir(tmp)) {
        bytes += (await Deno.stat(join(tmp, name))).size;
      }
    } catch { /* not there yet, or moved to its place in this moment */ }
    return bytes;
  };

  // However late this test looks, the transfer is not over.
  await addRule(env, b.host, `-m quota --quota ${QUOTA_BYTES} -j ACCEPT`);
  await addRule(env, b.host, "-j DROP");
  // Without this setting git-annex would retry at once by itself.
  const get = ["get", "-c", "annex.forward-retry=0", "--json", "--json-progress", "big-0"];
  const first = await env.start(["git", "annex", ...get], { on: b.host, cwd: b.path });
  await env.until("a part to be there", async () => await received() > 6_000_000);
  const dialers = await helperPids(env, "connect", b.host.name);
  assert.equal(dialers.length > 0, true);
  for (const pid of dialers) killQuietly(pid, "SIGKILL");
  assert.notEqual((await first.ended).code, 0);
  await removeRules(env, b.host);
  const part = await received();
  assert(part > 6_000_000 && part < length, `${part} bytes`);

  const second = await b.ok(["get", "--json", "--json-progress", "big-0"]);
  const progress = Number(/"byte-progress":(\d+)/.exec(second)![1]);
  assert(progress >= part, `went on at ${progress}, not at ${part}`);
  assert.equal(await b.checksum("big-0"), files.get("big-0"));
});

scenario("git-annex: remotedaemon in the background, stopped and started again", {
  needs: [...needs, "proc"],
  limitMs: 180_000,
}, async (env) => {
  const { a, b } = await makeAnnexes(env);
  const background = async (annex: Annex) => {
    const before = (await annex.log()).length;
    await annex.ok(["remotedaemon"]);
    await annex.serving(before);
  };
  await background(a);
  await background(b);
  await linkBoth(a, b);
  const files = await writeFiles(a, "before", [100_000]);
  await syncUntilSame(env, a, b, files);

  for (let round = 0; round < 2; round++) {
    const before = (await a.log()).length;
    for (const pid of await daemonPids(env, a.host.name)) killQuietly(pid, "SIGKILL");
    // git-annex does not stop the listener of a killed daemon; the listener notices by itself.
    await env.until(
      "the listener to stop",
      async () => (await helperPids(env, "serve", a.host.name)).length === 0,
    );
    assert.match((await a.log()).slice(before), /the process that started it is gone/);
    await background(a);
    assert.equal((await helperPids(env, "serve", a.host.name)).length, 1);
    for (const [name, sum] of await writeFiles(b, `after-${round}`, [100_000])) {
      files.set(name, sum);
    }
    await syncUntilSame(env, a, b, files);
  }

  // A second daemon takes over the sockets, and its listener replaces the first one.
  await a.serve();
  await env.until(
    "one listener to be left",
    async () => (await helperPids(env, "serve", a.host.name)).length === 1,
  );
  await syncUntilSame(env, a, b, await writeFiles(a, "second", [100_000]));
});

scenario(
  "git-annex: a repository that was set up with the shell script keeps its address and remotes",
  {
    needs: [...needs, "dumbpipe", "iroh-relay"],
    limitMs: 180_000,
  },
  async (env) => {
    const network = await makeNetwork(env, "lan");
    const relay = await startRelay(env, network.relay);
    for (const host of [network.a, network.b]) host.env.GIT_ANNEX_P2P_IROH_RELAY = relay.url;
    const b = await Annex.make(env, network.b);
    await b.enable();

    // A host with the script has it on PATH under the name of this program, and dumbpipe.
    const program = join(network.a.dir, "bin", "git-annex-p2p-iroh");
    await Deno.rename(program, `${program}.ours`);
    await Deno.copyFile(toolPath("dumbpipe_script.sh"), program);
    const a = await Annex.make(env, network.a);
    await a.enable();
    const addresses = await a.addresses();
    const secret = join(a.path, ".git", "annex", "creds", "iroh-secret");
    const key = await Deno.readTextFile(secret);

    // While a still runs the script, it reaches b, which runs this program.
    const daemon = await b.serve();
    await a.link("b", await b.addresses());
    const files = await writeFiles(b, "for-the-script", [400_000]);
    await env.until("the script's side to have the file", async () => {
      await a.run(["sync", "--content"]);
      return await a.checksum("for-the-script-0") === files.get("for-the-script-0");
    });
    assert.equal(daemon.code, undefined);

    // Then the user of a replaces the script with this program.
    await Deno.rename(`${program}.ours`, program);
    await a.enable(); // as the guide says
    assert.equal(await Deno.readTextFile(secret), key);
    assert.equal(withoutToken(await a.addresses()), withoutToken(addresses));
    await a.serve();
    await b.link("a", addresses); // addresses that the script has made
    for (const [name, sum] of await writeFiles(a, "from-a", [400_000])) files.set(name, sum);
    await syncUntilSame(env, a, b, files);
  },
);

scenario("git-annex: pairing with Magic Wormhole", {
  needs: [...needs, "wormhole"],
  limitMs: 180_000,
}, async (env) => {
  const { a, b } = await makeAnnexes(env);
  const port = freePort();
  const mailbox = await env.start(["twist", "wormhole-mailbox", `--port=tcp:${port}`], {
    on: a.host,
  });
  await mailbox.says(/Starting reactor/);
  for (const annex of [a, b]) {
    annex.host.env.WORMHOLE_RELAY_URL = `ws://${a.host.ip}:${port}/v1`;
    await annex.serve();
  }
  const [one, two] = await Promise.all(
    [a, b].map((annex) =>
      env.start(python("type_on_terminal.py", "git", "annex", "p2p", "--pair"), {
        on: annex.host,
        cwd: annex.path,
        stdin: "open",
      })
    ),
  );
  const codeOf = async (side: typeof one) =>
    /[0-9]+-[a-z]+-[a-z-]+/.exec(
      await side!.says(/is: [0-9]+-[a-z]+-[a-z-]+(?=\s)/), // the whole line
    )![0];
  const codes = [await codeOf(one), await codeOf(two)];
  await one!.write(`${codes[1]}\n`);
  await two!.write(`${codes[0]}\n`);
  assert.deepEqual([(await one!.ended).code, (await two!.ended).code], [0, 0]);
  const files = await writeFiles(a, "paired", [100_000]);
  await syncUntilSame(env, a, b, files);
});

scenario("git-annex: git clones from a bare address", { needs, limitMs: 120_000 }, async (env) => {
  const { a, b } = await makeAnnexes(env);
  await a.serve();
  const files = await writeFiles(a, "cloned", [100_000]);
  const [, url, token] = /^(p2p-annex::\S+):([^:\s]+)\n$/.exec(await a.addresses())!;
  const on = b.host;
  await env.until("the clone to be there", async () => {
    await Deno.remove(join(on.dir, "clone"), { recursive: true }).catch(() => {}); // left over from the last attempt
    const clone = ["timeout", "-k", "2", "20", "git", "clone", "-q", url!, "clone"];
    return (await env.run(clone, { on, env: { GIT_ANNEX_P2P_AUTHTOKEN: token! } })).code === 0;
  });
  const clone = new Annex(env, on, join(on.dir, "clone"));
  assert.equal(await clone.gitOk(["rev-parse", "HEAD"]), await a.gitOk(["rev-parse", "HEAD"]));
  await clone.ok(["init", "--quiet", "clone"]);
  // git knows only the URL, so the user links the remote for git-annex as always.
  await clone.link("peer", `${url}:${token}`);
  await clone.ok(["get", "cloned-0"]);
  assert.equal(await clone.checksum("cloned-0"), files.get("cloned-0"));
});

/** Removes the token of an address; each call of `--gen-addresses` makes a new one. */
function withoutToken(addresses: string): string {
  return addresses.trim().replace(/:[^:]*$/, "");
}

/** Returns the ids of this test's processes whose command line and environment fit. */
async function pidsOf(
  env: TestEnv,
  fits: (args: string[], environ: string) => boolean,
): Promise<number[]> {
  const pids: number[] = [];
  for (const pid of await env.marked()) {
    const read = (name: string) => Deno.readTextFile(`/proc/${pid}/${name}`).catch(() => "");
    const args = (await read("cmdline")).split("\0").slice(0, -1);
    if (fits(args, await read("environ"))) pids.push(pid);
  }
  return pids;
}

/** Returns the ids of the processes of the program under test on a host. */
function helperPids(env: TestEnv, call: "connect" | "serve", host: string): Promise<number[]> {
  return pidsOf(env, (args, environ) => {
    const at = args.findIndex((arg) => /^endpoint[a-z2-7]+$/.test(arg));
    if (at < 0 || !environ.includes(`/${host}/home`)) return false;
    return args.length - at === (call === "connect" ? 1 : 2);
  });
}

function daemonPids(env: TestEnv, host: string): Promise<number[]> {
  return pidsOf(
    env,
    (args, environ) => args.includes("remotedaemon") && environ.includes(`/${host}/home`),
  );
}
