/**
 * deno task demo
 *
 * Shows the main job on one machine, without set-up and without the internet. Two repositories are linked;
 * one adds a file, and the other fetches it. All files are in a temporary folder, which is removed.
 */

import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { PERMISSIONS } from "./run_flags.ts";
import { denoDir, installProgram } from "./program.ts";
import { runInSandbox, sandbox } from "./sandbox.ts";
import { pathWithGitAnnex, ToolMissing } from "./tools.ts";

/** Timeout for the demo, which takes half a minute. */
const DEMO_TIMEOUT_MS = 5 * 60_000;
/** Timeout for a git-annex command. Some of its races make it wait for ever. */
const COMMAND_TIMEOUT_MS = 20_000;
/** Maximum number of attempts at a step in which git-annex may get stuck. */
const MAX_ATTEMPTS = 5;
const FILE_BYTES = 5_000_000;
const ENDPOINT = /endpoint[a-z2-7]+/;

const root = dirname(import.meta.dirname!);

/** A step of the demo has failed. */
class DemoFailed extends Error {}

function tell(line: string): void {
  // deno-lint-ignore no-console -- a task talks to the terminal
  console.log(line);
}

/** Installs what is missing, with the network, and then runs the demo without one. */
async function main(): Promise<number> {
  const installed = await new Deno.Command(Deno.execPath(), {
    args: ["install", "--quiet", "--frozen"],
    cwd: root,
  }).spawn().status;
  if (!installed.success) return installed.code;
  try {
    Deno.env.set("PATH", await pathWithGitAnnex(Deno.env.get("PATH") ?? ""));
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    tell(error.message);
    return 1;
  }
  const folder = await Deno.makeTempDir({ prefix: "p2p-iroh-demo-" });
  try {
    const { url } = import.meta;
    return await runInSandbox(
      [Deno.execPath(), "run", "--quiet", "--cached-only", ...PERMISSIONS, url, folder],
      DEMO_TIMEOUT_MS,
    );
  } finally {
    // git-annex makes its object folders read-only.
    await new Deno.Command("chmod", { args: ["-R", "u+w", folder], stderr: "null" }).output();
    await Deno.remove(folder, { recursive: true });
    tell("Cleaned up: the processes have ended, the folder is gone.");
  }
}

/** A repository, with the settings of its user. */
class Repository {
  constructor(readonly name: string, readonly path: string, readonly env: Record<string, string>) {}

  /** Runs a git command. @throws {DemoFailed} if it fails or takes too long. */
  async git(args: string[], stdin?: string): Promise<string> {
    const child = new Deno.Command("git", {
      args,
      cwd: this.path,
      env: this.env,
      stdin: stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
      detached: true, // a process group, to kill git together with its children
    }).spawn();
    const timer = setTimeout(() => process.kill(-child.pid, "SIGKILL"), COMMAND_TIMEOUT_MS);
    if (stdin !== undefined) {
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(stdin));
      await writer.close();
    }
    const { success, stdout, stderr } = await child.output();
    clearTimeout(timer);
    if (success) return new TextDecoder().decode(stdout).trim();
    throw new DemoFailed(`git ${args.join(" ")}: ${new TextDecoder().decode(stderr).trim()}`);
  }

  /** Prints and runs a `git annex` command. */
  async annex(args: string[], stdin?: string): Promise<string> {
    tell(`  ${this.name}$ git annex ${args.join(" ")}`);
    return await this.git(["annex", ...args], stdin);
  }

  /** Starts `up`, and waits until peers can connect. */
  async serve(): Promise<Deno.ChildProcess> {
    tell(`  ${this.name}$ git-annex-p2p-iroh up`);
    const up = new Deno.Command("git-annex-p2p-iroh", {
      args: ["up"],
      cwd: this.path,
      env: this.env,
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const timeout = setTimeout(() => up.kill("SIGTERM"), COMMAND_TIMEOUT_MS);
    let text = "";
    const reader = up.stdout.pipeThrough(new TextDecoderStream()).getReader();
    while (!/^ready/m.test(text)) {
      const { value, done } = await reader.read();
      if (done) throw new DemoFailed(`${this.name} is not being served`);
      text += value;
    }
    clearTimeout(timeout);
    for (const line of text.trim().split("\n")) tell(`    ${line}`);
    this.#readOn(reader);
    return up;
  }

  /** Prints what `up` reports later. */
  async #readOn(reader: ReadableStreamDefaultReader<string>): Promise<void> {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      for (const line of value.trim().split("\n")) tell(`    (${this.name}'s up: ${line})`);
    }
  }
}

async function makeRepository(folder: string, name: string): Promise<Repository> {
  const home = join(folder, `${name}-home`), path = join(folder, name);
  await Deno.mkdir(home);
  const env = {
    HOME: home,
    XDG_CACHE_HOME: join(home, ".cache"),
    // Both repositories belong to one user, and find each other in the runtime folder.
    XDG_RUNTIME_DIR: join(folder, "run"),
    PATH: [join(folder, "bin"), Deno.env.get("PATH")].join(delimiter),
    DENO_DIR: denoDir(),
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: join(home, "gitconfig"),
    GIT_ANNEX_P2P_IROH_RELAY: "none",
    GIT_ANNEX_P2P_IROH_LOOKUP: "none",
    // Without namespaces, the local network would be a real one.
    GIT_ANNEX_P2P_IROH_LAN: "false",
  };
  await Deno.writeTextFile(
    env.GIT_CONFIG_GLOBAL,
    `[user]\nname = ${name}\nemail = ${name}@example.com\n[init]\ndefaultBranch = main\n`,
  );
  const repository = new Repository(name, path, env);
  await new Deno.Command("git", { args: ["init", "--quiet", path], env }).output();
  await repository.git(["annex", "init", "--quiet", name]);
  return repository;
}

/** Repeats a step, in which git-annex may get stuck, until it is done. */
async function untilDone(what: string, attempt: () => Promise<boolean>): Promise<void> {
  for (let i = 1;; i++) {
    try {
      if (await attempt()) return;
      if (i === MAX_ATTEMPTS) throw new DemoFailed(`${what}: not done after ${i} attempts`);
      tell("  (not there yet; again)");
    } catch (error) {
      if (!(error instanceof DemoFailed) || i === MAX_ATTEMPTS) throw error;
      tell(
        /no commits yet/.test(error.message)
          ? "  (the first sync of an empty repository reports that; again)"
          : "  (git-annex failed; again)",
      );
    }
  }
}

async function checksum(path: string): Promise<string | undefined> {
  const content = await Deno.readFile(path).catch(() => undefined); // not there yet
  if (!content) return undefined;
  return new Uint8Array(await crypto.subtle.digest("SHA-256", content)).toHex();
}

/** Runs the demo, and prints each step. @returns The exit status. */
async function demo(folder: string): Promise<number> {
  const ups: Deno.ChildProcess[] = [];
  try {
    await Deno.mkdir(join(folder, "bin"));
    await Deno.mkdir(join(folder, "run"), { mode: 0o700 });
    await installProgram(join(folder, "bin"));
    tell(
      sandbox() === "namespaces"
        ? "Alice and Bob each have a repository, in a sandbox without this machine's network."
        : "Alice and Bob each have a repository. Nothing leaves this machine's loopback.",
    );
    const alice = await makeRepository(folder, "alice");
    const bob = await makeRepository(folder, "bob");

    tell("\n1. Each lets peers connect, by an address that is a public key:");
    for (const repository of [alice, bob]) ups.push(await repository.serve());

    tell("\n2. Each gets the other's address (on two machines, git annex p2p --pair does this):");
    for (const [from, to] of [[alice, bob], [bob, alice]] as const) {
      const addresses = await from.annex(["p2p", "--gen-addresses"]);
      tell(`    ${ENDPOINT.exec(addresses)![0]}`);
      await to.annex(["p2p", "--link", `--name=${from.name}`], addresses);
    }

    tell("\n3. Alice adds a file of 5 MB, and syncs its name:");
    const photo = new Uint8Array(FILE_BYTES);
    for (let i = 0; i < photo.length; i += 65536) {
      crypto.getRandomValues(photo.subarray(i, i + 65536));
    }
    await Deno.writeFile(join(alice.path, "photo.jpg"), photo);
    await alice.annex(["add", "photo.jpg"]);
    await untilDone("sending the name", async () => {
      await alice.annex(["sync", "--no-content"]);
      await bob.annex(["sync", "--no-content"]);
      return await bob.git(["ls-files", "photo.jpg"]) === "photo.jpg";
    });

    tell("\n4. Bob fetches it from Alice:");
    const started = performance.now();
    await untilDone("fetching the file", async () => {
      await bob.annex(["get", "photo.jpg"]);
      return await checksum(join(bob.path, "photo.jpg")) ===
        await checksum(join(alice.path, "photo.jpg"));
    });
    tell(`    ${((performance.now() - started) / 1000).toFixed(1)} s, and the checksums agree`);
    tell("\nAlice's listener logs in .git/annex/p2p-iroh/log:");
    const log = await Deno.readTextFile(join(alice.path, ".git", "annex", "p2p-iroh", "log"));
    for (const line of log.trim().split("\n").slice(-2)) tell(`    ${line}`);
    tell("\nDone.");
    return 0;
  } catch (error) {
    if (!(error instanceof DemoFailed)) throw error;
    tell(`The demo failed: ${error.message}`);
    return 1;
  } finally {
    for (const up of ups) {
      up.kill("SIGTERM");
      await up.status; // by then all that it has started has ended, too
    }
  }
}

if (import.meta.main) {
  const [folder] = Deno.args;
  Deno.exit(folder ? await demo(folder) : await main());
}
