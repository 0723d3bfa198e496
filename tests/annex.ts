/**
 * Repositories of the real git-annex, on two hosts with a relay, or on one host if iroh-relay is not
 * installed.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { makeLoopback, makeNetwork, startRelay } from "./network.ts";
import { checksumOf } from "./pair.ts";
import {
  hasTool,
  type Host,
  type Run,
  type Started,
  type StartOptions,
  type TestEnv,
  type Tool,
} from "./testenv.ts";

/** Tools that tests with git-annex need. */
export const ANNEX_TOOLS: readonly Tool[] = ["git-annex", "timeout"];

/**
 * Timeout for one attempt of a git-annex command. git-annex has a race in which it waits for ever, with any
 * transport; what it has transferred by then is not lost.
 */
const TRY_LIMIT_S = 20;
/** Timeout for one `sync` or `assist` if all remotes are online; it takes at most 5 s, unless it hangs. */
const SYNC_LIMIT_S = 10;
/** Added to it for each offline remote: up to six dials of 5 s each on a local network. */
const AWAY_S = 36;

/** A repository of git-annex. */
export class Annex {
  constructor(readonly env: TestEnv, readonly host: Host, readonly path: string) {}

  static async make(env: TestEnv, host: Host, name = "annex"): Promise<Annex> {
    const annex = new Annex(env, host, join(host.dir, name));
    await env.ok(["git", "init", "-q", annex.path], { on: host });
    await annex.ok(["init", "--quiet", host.name]);
    return annex;
  }

  /** Runs `git annex` for at most {@linkcode TRY_LIMIT_S}. */
  run(args: readonly string[], options: StartOptions = {}): Promise<Run> {
    return this.git(["annex", ...args], options);
  }

  /** Runs `git annex`, which must succeed. */
  async ok(args: readonly string[], options: StartOptions = {}): Promise<string> {
    return okay(args, await this.run(args, options));
  }

  /** Runs `git` for at most `limitS` seconds. */
  git(
    args: readonly string[],
    options: StartOptions = {},
    limitS = TRY_LIMIT_S,
  ): Promise<Run> {
    // timeout(1) also ends the children of git, which hold its stdout open.
    const command = ["timeout", "-k", "2", `${limitS}`, "git", ...args];
    return this.env.run(command, { on: this.host, cwd: this.path, ...options });
  }

  async gitOk(args: readonly string[]): Promise<string> {
    return okay(args, await this.git(args));
  }

  /** Gives the repository an address. */
  async enable(): Promise<void> {
    await this.ok(["p2p", "--enable", "iroh"]);
  }

  /** Returns addresses with tokens, for {@linkcode link}. */
  async addresses(): Promise<string> {
    return await this.ok(["p2p", "--gen-addresses"]);
  }

  /** Makes the repository with these addresses a remote. */
  async link(name: string, addresses: string): Promise<void> {
    await this.ok(["p2p", "--link", `--name=${name}`], { stdin: addresses });
  }

  /** Starts remotedaemon in the foreground, and waits until peers can connect. */
  async serve(): Promise<Started> {
    const before = (await this.log()).length;
    const daemon = await this.env.start(["git", "annex", "remotedaemon", "--foreground"], {
      on: this.host,
      cwd: this.path,
      stdin: "open", // at its end the daemon stops
    });
    await this.serving(before);
    return daemon;
  }

  /** Waits until the program's log says, after its first `from` characters, that a listener serves. */
  async serving(from = 0): Promise<void> {
    await this.env.until(`${this.host.name} to serve`, async () => {
      const log = (await this.log()).slice(from);
      const hasRelay = this.host.env.GIT_ANNEX_P2P_IROH_RELAY !== "none";
      return /serving endpoint/.test(log) && (!hasRelay || /reachable through relay/.test(log));
    });
  }

  /** Returns the program's log. */
  log(): Promise<string> {
    return Deno.readTextFile(join(this.path, ".git", "annex", "p2p-iroh", "log")).catch(() => "");
  }

  async write(name: string, content: Uint8Array): Promise<void> {
    await Deno.writeFile(join(this.path, name), content);
  }

  /** Adds and commits every file. */
  async add(): Promise<void> {
    await this.ok(["add", "--quiet", "."]);
    await this.gitOk(["commit", "-qm", `files of ${this.host.name}`]);
  }

  /** Returns the checksum of a file's content, or undefined if the content is not here. */
  async checksum(name: string): Promise<string | undefined> {
    const content = await Deno.readFile(join(this.path, name)).catch(() => undefined);
    return content && await checksumOf(content);
  }

  /** Asks git-annex whether a file's content is here. */
  async has(name: string): Promise<boolean> {
    return (await this.run(["find", "--in=here", "--", name])).stdout.trim() === name;
  }

  /** Returns the commits of the branches that `sync` keeps equal; undefined if a branch is missing. */
  async refs(): Promise<string | undefined> {
    const { code, stdout } = await this.git(["rev-parse", "--quiet", "--verify", "main"]);
    if (code !== 0) return undefined;
    return stdout + await this.gitOk(["rev-parse", "git-annex"]);
  }

  /** Runs `sync --content` once. Its exit status does not matter; tests look at the repositories. */
  async sync(): Promise<void> {
    await this.git(["annex", "sync", "--content"], {}, SYNC_LIMIT_S);
  }

  /**
   * Runs `assist` once, which adds, commits, pulls, pushes, gets and puts. Its exit status does not matter;
   * tests look at the repositories.
   *
   * @param away Number of the remotes that are offline.
   * @param remotes The remotes to sync with; all by default.
   */
  async assist(away = 0, ...remotes: readonly string[]): Promise<void> {
    await this.git(["annex", "assist", ...remotes], {}, SYNC_LIMIT_S + away * AWAY_S);
  }
}

function okay(args: readonly string[], { code, stdout }: Run): string {
  if (code !== 0) throw new Error(`git ${args.join(" ")}: exit status ${code}`);
  return stdout;
}

/** Makes two repositories with addresses, each on its own host. */
export async function makeAnnexes(env: TestEnv): Promise<{ a: Annex; b: Annex }> {
  const annexes = [];
  for (const host of await makeHosts(env)) {
    const annex = await Annex.make(env, host);
    await annex.enable();
    annexes.push(annex);
  }
  return { a: annexes[0]!, b: annexes[1]! };
}

async function makeHosts(env: TestEnv): Promise<Host[]> {
  if (hasTool("iroh-relay")) {
    const { a, b, relay } = await makeNetwork(env, "lan");
    const { url } = await startRelay(env, relay);
    for (const host of [a, b]) host.env.GIT_ANNEX_P2P_IROH_RELAY = url;
    return [a, b];
  }
  const { a, b } = await makeLoopback(env);
  b.env.XDG_RUNTIME_DIR = a.env.XDG_RUNTIME_DIR!; // repositories of one user find each other
  return [a, b];
}

/** Makes two repositories that are each other's remotes, and serves both. */
export async function makeLinked(env: TestEnv): Promise<{ a: Annex; b: Annex }> {
  const { a, b } = await makeAnnexes(env);
  await Promise.all([a.serve(), b.serve()]);
  await linkBoth(a, b);
  return { a, b };
}

/** Makes each the other's remote. Both must be served: git-annex tries the address. */
export async function linkBoth(a: Annex, b: Annex): Promise<void> {
  await a.link(b.host.name, await b.addresses());
  await b.link(a.host.name, await a.addresses());
}

/** Syncs both until they have the same branches, and these files with these checksums. */
export async function syncUntilSame(
  env: TestEnv,
  a: Annex,
  b: Annex,
  files: ReadonlyMap<string, string>,
): Promise<void> {
  await env.until("both repositories to be the same", async () => {
    await a.sync();
    await b.sync();
    const refs = await a.refs();
    if (refs === undefined || refs !== await b.refs()) return false;
    for (const annex of [a, b]) {
      for (const [name, checksum] of files) {
        if (await annex.checksum(name) !== checksum) return false;
      }
    }
    return true;
  });
  for (const annex of [a, b]) assert.equal(await annex.ok(["fsck", "--quiet"]), "");
}
