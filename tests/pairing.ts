/** What tests of `invite` and `join` share. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeInvitation } from "../lib/pairing/invitation.ts";
import type { Annex } from "./annex.ts";
import {
  type Host,
  killQuietly,
  type Started,
  type StartOptions,
  type TestEnv,
} from "./testenv.ts";

export const CODE = /annexinvite[0-9a-z]{80,}/;

/** Starts `invite`, and waits until it has printed the invitation. */
export async function invite(
  annex: Annex,
  ...args: readonly string[]
): Promise<{ started: Started; code: string }> {
  const command = ["git-annex-p2p-iroh", "invite", ...args];
  const started = await annex.env.start(command, { on: annex.host, cwd: annex.path });
  return { started, code: await started.says(CODE) };
}

/** Starts `join` on a host, with an invitation on stdin. */
export function startJoin(
  env: TestEnv,
  on: Host,
  code: string,
  args: readonly string[],
  options: StartOptions = {},
): Promise<Started> {
  const command = ["git-annex-p2p-iroh", "join", ...args];
  return env.start(command, { on, stdin: `${code}\n`, ...options });
}

/** Checks that a repository has a remote for a peer of iroh, with this cost; the empty string if it has none. */
export async function assertRemote(annex: Annex, name: string, cost = "150\n"): Promise<void> {
  const config = async (key: string) =>
    (await annex.git(["config", "--get", `remote.${name}.${key}`])).stdout;
  assert.match(await config("url"), /^p2p-annex::iroh:endpoint[a-z2-7]+\n$/);
  assert.match(await config("annex-uuid"), /^[0-9a-f-]{36}\n$/);
  assert.equal(await config("annex-cost"), cost);
}

/** Returns the names of a repository's remotes. */
export async function remotesOf(annex: Annex): Promise<string[]> {
  return (await annex.gitOk(["remote"])).split("\n").filter((name) => name);
}

/** Returns the number of tokens that let peers in. */
export async function tokensOf(annex: Annex): Promise<number> {
  return (await tokenList(annex)).length;
}

async function tokenList({ path }: Annex): Promise<string[]> {
  const list = await Deno.readTextFile(join(path, ".git", "annex", "creds", "p2pauth"));
  return list.trim().split("\n").map((line) => line.split(" ", 1)[0]!);
}

/**
 * Checks that no invitation and no token is on a command line or in an environment. Checks the same of the files of
 * listeners, except the one for tokens, and that those of a pairing are private.
 */
export async function assertNoSecretShown(
  env: TestEnv,
  annexes: readonly Annex[],
  code: string,
): Promise<void> {
  const secrets = [code, decodeInvitation(code).secret.toHex()];
  const shown = new Map<string, string>();
  const look = async (path: string) =>
    void shown.set(path, await Deno.readTextFile(path).catch(() => "")); // it has ended, or is not there
  for (const annex of annexes) {
    secrets.push(...await tokenList(annex));
    const folder = join(annex.path, ".git", "annex", "p2p-iroh");
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      const path = join(folder, name);
      if (/^(invitations|pairing-lines|join-.*)$/.test(name)) {
        assert.equal((await Deno.stat(path)).mode! & 0o077, 0, `${name} is open to others`);
      }
      if (name === "pairing-lines") continue;
      const files = isDirectory
        ? await Array.fromAsync(Deno.readDir(path), (file) => join(path, file.name))
        : [path];
      await Promise.all(files.map(look));
    }
  }
  for (const pid of await env.marked()) {
    for (const name of ["cmdline", "environ"]) await look(`/proc/${pid}/${name}`);
  }
  assert(
    shown.values().some((text) => text.includes("--link")),
    "git annex p2p --link was not seen",
  );
  for (const [path, text] of shown) {
    assert(!secrets.some((secret) => text.includes(secret)), `${path} has a secret`);
  }
}

/** Tells whether nothing is at a path. */
export async function isGone(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => false, () => true);
}

/**
 * Stops each git-annex of a host in a command whose words match, before it does anything. The file `stopped` then has
 * the process id of the stopped one.
 */
export function stopGitAnnexAt(host: Host, words: string): Promise<StoppedAnnex> {
  return stopAt(host, (command) => replaceGitAnnex(host, words, command));
}

/** Stops each `git fetch` of a host from a peer. */
export function stopFetchesOf(host: Host): Promise<StoppedAnnex> {
  return stopAt(host, async (command) => {
    const path = join(host.dir, "bin", "git-remote-p2p-annex");
    await Deno.writeTextFile(path, `#!/bin/sh\n${command}\n`, { mode: 0o755 });
    return { [Symbol.asyncDispose]: () => Deno.remove(path) };
  });
}

async function stopAt(
  host: Host,
  replace: (command: string) => Promise<AsyncDisposable>,
): Promise<StoppedAnnex> {
  const stopped = join(host.dir, "stopped");
  // The file has the id from the start.
  const write = `echo $$ >'${stopped}.new'; mv '${stopped}.new' '${stopped}'`;
  const replaced = await replace(`${write}; exec sleep 600`);
  const release = async () => {
    const pid = Number(await Deno.readTextFile(stopped).catch(() => "0"));
    await Deno.remove(stopped).catch(() => {}); // it is not reached
    if (pid > 0) killQuietly(pid, "SIGKILL"); // only then may the next one write the file
  };
  return {
    isReached: async () => !await isGone(stopped),
    release,
    async [Symbol.asyncDispose]() {
      await replaced[Symbol.asyncDispose]();
      await release();
    },
  };
}

/** Commands of git-annex that are stopped, until it is disposed of. */
export interface StoppedAnnex extends AsyncDisposable {
  /** Tells whether one is stopped now. */
  isReached(): Promise<boolean>;
  /** Kills the one that is stopped. The next one will be stopped, too. */
  release(): Promise<void>;
}

/** Returns the path of the key with which a join that is not complete goes on. */
export async function joinKeyOf({ path }: Annex): Promise<string> {
  const folder = join(path, ".git", "annex", "p2p-iroh");
  const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  const keys = names.filter((name) => name.startsWith("join-"));
  assert.equal(keys.length, 1);
  return join(folder, keys[0]!);
}

/** Returns the process id of a repository's listener. */
export async function listenerOf(annex: Annex): Promise<number> {
  const path = join(annex.path, ".git", "annex", "p2p-iroh", "listener");
  return JSON.parse(await Deno.readTextFile(path)).pid;
}

/** Has a shell command run in place of each git-annex of a host whose words match, until it is disposed of. */
export async function replaceGitAnnex(
  host: Host,
  words: string,
  command: string,
): Promise<AsyncDisposable> {
  const path = join(host.dir, "bin", "git-annex"), real = await pathOf("git-annex");
  const script = `#!/bin/sh\ncase "$*" in *"${words}"*) ${command};; esac\nexec '${real}' "$@"\n`;
  await Deno.writeTextFile(`${path}.new`, script, { mode: 0o755 });
  await Deno.rename(`${path}.new`, path);
  return { [Symbol.asyncDispose]: () => Deno.remove(path) };
}

/** Returns the path of a program on PATH. */
export async function pathOf(program: string): Promise<string> {
  const command = new Deno.Command("sh", { args: ["-c", `command -v ${program}`] });
  return new TextDecoder().decode((await command.output()).stdout).trim();
}
