/** A dial of remotedaemon does not fail while its peer is away. It waits, and connects when the peer is back. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { isRemoteDaemon } from "../lib/connect/started_by.ts";
import { processInfo } from "../lib/platform/processes.ts";
import { readIdentity } from "../lib/repository/identity.ts";
import { Annex, ANNEX_TOOLS, linkBoth, syncUntilSame } from "./annex.ts";
import { type Friend, makeFriends } from "./friends.ts";
import { changeAddress, LAN } from "./lan.ts";
import { addressAt } from "./pair.ts";
import { makeNetworkOf, plugIn, unplug } from "./network.ts";
import { killQuietly, scenario, type Started, type TestEnv } from "./testenv.ts";
import { toolPath } from "./tools.ts";
import { answered, exchange, fallSilent, unlessSlow } from "./warm.ts";

/** Maximum memory of its own that a waiting process keeps, as docs/control-socket.md promises. */
const MAX_PRIVATE_BYTES = 32_000_000;

/** Maximum time until a friend who is back is heard, as docs/guide.md promises. */
const MAX_HEARD_MS = 5_000;
/** Timeout for one attempt of `git fetch`, which takes half a second unless it hangs. */
const FETCH_LIMIT_MS = 10_000;

const WAITS = /waiting until the peer is there/g;
const UNREACHED = /^git-annex-p2p-iroh: cannot reach the peer; tried /m;
const CONNECTED = /^CONNECTED /gm;

/** A friend `b` with a remote `a` that does not answer, and a stand-in of remotedaemon that connects to it. */
interface Absence {
  readonly a: Friend;
  readonly b: Friend;
  readonly address: string;
  /** Takes the place of the absent listener at the same port. */
  readonly comeBack: (start: (bind: string) => Promise<unknown>) => Promise<void>;
  /** Dials as remotedaemon does. */
  readonly dialAsDaemon: () => Promise<Started>;
}

async function makeAbsence(env: TestEnv): Promise<Absence> {
  const [a, b] = await makeFriends(env);
  const { address, bind, silent } = await fallSilent(a);
  const url = `p2p-annex::iroh:${a.address}`;
  await env.ok(["git", "config", "remote.a.url", url], { on: b.host, cwd: b.repository });
  b.listener.kill("SIGTERM");
  await b.listener.ended;
  b.listener = await b.listen();
  const daemon = join(b.host.dir, "git-annex");
  await Deno.copyFile(toolPath("remotedaemon.sh"), daemon);
  await Deno.chmod(daemon, 0o755);
  return {
    a,
    b,
    address,
    async comeBack(start) {
      silent.close();
      await start(bind);
      // The listener tries again after a minute. It notices at once if a process connects by another address.
      const other = addressAt(a.address, bind, "127.0.0.1:9");
      assert.equal((await (await b.connect(other, { stdin: "x" })).ended).code, 0);
    },
    dialAsDaemon() {
      return unlessSlow(async () => {
        const dial = await env.start([daemon, "remotedaemon", address], {
          on: b.host,
          cwd: b.repository,
          stdin: "open",
          env: { GIT_ANNEX_P2P_IROH_LOG: "debug" },
        });
        await dial.write("word");
        await dial.says(WAITS);
        return dial;
      }, async (dial) => { // its listener was slow, so it has loaded iroh
        await dial.end();
        await dial.ended;
      });
    },
  };
}

/** Returns the id of the process of the program that a stand-in of remotedaemon has started. */
async function dialOf({ pid }: Started): Promise<number> {
  const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
  return Number(children.trim());
}

/** Returns how many bytes of memory a process shares with no other one. */
async function privateMemoryOf(pid: number): Promise<number> {
  const rollup = await Deno.readTextFile(`/proc/${pid}/smaps_rollup`);
  const all = [...rollup.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB$/gm)];
  return all.reduce((sum, [, kibibytes]) => sum + Number(kibibytes) * 1024, 0);
}

scenario("return: a dial of remotedaemon waits with little memory, and others fail at once", {
  waits: true,
  needs: ["proc"],
}, async (env) => {
  const { a, b, address, comeBack, dialAsDaemon } = await makeAbsence(env);
  const dial = await dialAsDaemon();
  const other = await (await b.connect(address, { stdin: "x" })).ended;
  assert.equal(other.code, 1);
  assert.match(other.stderr, UNREACHED);
  const memory = await privateMemoryOf(await dialOf(dial));
  assert(memory <= MAX_PRIVATE_BYTES, `${memory} bytes`);
  await comeBack((bind) => a.listen({ env: { GIT_ANNEX_P2P_IROH_BIND: bind } }));
  await dial.says(/word/);
  await dial.end();
  assert.deepEqual([(await dial.ended).code, dial.stdout], [0, answered("word")]);
  assert.equal((await exchange(b, address)).isWarm, true);
});

scenario("return: a dial of remotedaemon connects to a peer that is back as dumbpipe", {
  waits: true,
  needs: ["dumbpipe", "proc"],
}, async (env) => {
  const { a, comeBack, dialAsDaemon } = await makeAbsence(env);
  const dial = await dialAsDaemon();
  const secret = readIdentity({ gitDir: join(a.repository, ".git") })!.secretKey.toHex();
  await comeBack(async (bind) => {
    const command = ["dumbpipe", "listen-unix", "--socket-path", a.fakeAnnex.path];
    const dumbpipe = await env.start([...command, "--ipv4-addr", bind], {
      on: a.host,
      env: { IROH_SECRET: secret },
    });
    await dumbpipe.says(/endpoint[a-z2-7]{50,}/);
  });
  await dial.says(/word/);
  await dial.end();
  assert.deepEqual([(await dial.ended).code, dial.stdout], [0, answered("word")]);
});

scenario("return: a dial that waits ends with git-annex, with the listener, and with the remote", {
  waits: true,
  needs: ["proc"],
}, async (env) => {
  const { b, dialAsDaemon } = await makeAbsence(env);
  const message = /^git-annex-p2p-iroh: /m;
  // git-annex closes stdin and stdout.
  const closed = await dialAsDaemon();
  await closed.end();
  assert.equal((await closed.ended).code, 1);
  assert.doesNotMatch(closed.stderr, message);
  // git-annex is killed.
  const orphan = await dialAsDaemon(), pid = await dialOf(orphan);
  orphan.kill("SIGKILL");
  await env.until("the orphan to end", async () => !(await env.marked()).includes(pid));
  // The user ends the process.
  const signalled = await dialAsDaemon();
  killQuietly(await dialOf(signalled), "SIGTERM");
  assert.equal((await signalled.ended).code, 128 + 15);
  // The listener is killed.
  const alone = await dialAsDaemon();
  b.listener.kill("SIGKILL");
  assert.equal((await alone.ended).code, 1);
  assert.match(alone.stderr, UNREACHED);
  b.listener = await b.listen();
  // The user removes the remote.
  const removed = await dialAsDaemon();
  await env.ok(["git", "remote", "remove", "a"], { on: b.host, cwd: b.repository });
  assert.equal((await removed.ended).code, 1);
  assert.match(removed.stderr, UNREACHED);
});

/** Returns a function that waits until a text matches once more than it does now. */
function oneMore(
  env: TestEnv,
  what: string,
  { text, pattern }: { text: () => string; pattern: RegExp },
): () => Promise<void> {
  const count = () => [...text().matchAll(pattern)].length, before = count();
  return () => env.until(what, () => count() > before);
}

/** Returns the ids of the remotedaemons in a repository. */
async function daemonsOf(env: TestEnv, { path }: Annex): Promise<number[]> {
  const pids: number[] = [];
  for (const pid of await env.marked()) {
    const command = (await processInfo(pid))?.command ?? "";
    if (!isRemoteDaemon(command)) continue;
    const cwd = await Deno.readLink(`/proc/${pid}/cwd`).catch(() => ""); // it has ended
    if (cwd.startsWith(path)) pids.push(pid);
  }
  return pids;
}

/** Commits changes until the other repository has one. A fetch of git-annex may hang with any transport. */
async function hearsChanges(env: TestEnv, from: Annex, to: Annex): Promise<void> {
  for (;;) {
    const name = crypto.randomUUID();
    await from.write(name, new TextEncoder().encode(name));
    await from.add();
    const commit = await from.gitOk(["rev-parse", "main"]), begin = performance.now();
    const ref = ["rev-parse", "--quiet", "--verify", `refs/remotes/${from.host.name}/main`];
    await env.until(
      "git to have fetched",
      async () =>
        (await to.git(ref)).stdout === commit || performance.now() - begin > FETCH_LIMIT_MS,
    );
    if ((await to.git(ref)).stdout === commit) return;
    for (const pid of await env.marked()) {
      const command = (await processInfo(pid))?.command ?? "";
      if (/^git (.* )?fetch /.test(command)) killQuietly(pid, "SIGKILL");
    }
  }
}

scenario("return: a friend who is back is heard at once, from another address, too", {
  waits: true,
  needs: [...ANNEX_TOOLS, "namespaces", "proc"],
  limitMs: 180_000,
}, async (env) => {
  const hosts = await makeNetworkOf(env, "lan", ["a", "b"]);
  for (const host of [hosts.a, hosts.b]) Object.assign(host.env, LAN);
  hosts.b.env.GIT_ANNEX_P2P_IROH_LOG = "debug";
  const a = await Annex.make(env, hosts.a), b = await Annex.make(env, hosts.b);
  await Promise.all([a.enable(), b.enable()]);
  let daemonOfA = await a.serve();
  await b.serve();
  await linkBoth(a, b);
  await a.write("file", new TextEncoder().encode("content"));
  await a.add();
  await syncUntilSame(env, a, b, new Map());
  const [daemon] = await daemonsOf(env, b);
  killQuietly(daemon!, "SIGKILL"); // it looks for new remotes once an hour
  const daemonOfB = await b.serve();
  const waits = { text: () => daemonOfB.stderr, pattern: WAITS };
  const connected = { text: () => daemonOfB.stdout, pattern: CONNECTED };
  const toHear = () => oneMore(env, "b to hear a", connected);
  const toWait = () => oneMore(env, "b's dial to wait", waits);
  await env.until("b to hear a", () => daemonOfB.stdout.search(CONNECTED) >= 0);

  // a's listener ends, and another one begins.
  let waiting = toWait();
  await daemonOfA.end();
  await daemonOfA.ended;
  await waiting();
  let hearing = toHear();
  daemonOfA = await a.serve();
  let back = performance.now();
  await hearing();
  assert(performance.now() - back < MAX_HEARD_MS);
  await hearsChanges(env, a, b);

  // a's network goes, and a comes back at another address.
  waiting = toWait();
  await unplug(a.host);
  await waiting();
  hearing = toHear();
  await plugIn(a.host);
  await changeAddress(env, a.host, "10.77.0.1", "10.77.0.11");
  back = performance.now();
  await hearing();
  assert(performance.now() - back < MAX_HEARD_MS);
  await hearsChanges(env, a, b);

  // b's remotedaemon is stopped while its dial waits.
  waiting = toWait();
  await daemonOfA.end();
  await daemonOfA.ended;
  await waiting();
  for (const pid of await daemonsOf(env, b)) killQuietly(pid, "SIGKILL");
  await env.until("all processes to end", async () => (await env.marked()).length === 0);
});
