/**
 * deno task demo
 *
 * The main job on one machine, with nothing set up before and no internet: two repositories, linked, a
 * file added in one and fetched in the other. Everything is in a temporary folder that is removed.
 */

import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { PERMISSIONS } from "./run_flags.ts";
import { denoDir, installProgram } from "./program.ts";
import { runInSandbox, sandbox } from "./sandbox.ts";
import { pathWithGitAnnex, ToolMissing } from "./tools.ts";

const LIMIT_MS = 5 * 60_000;
/** For one git-annex command; git-annex races with itself, and may then wait for ever. */
const COMMAND_LIMIT_MS = 20_000;
const TRIES = 5;
const LOOK_MS = 50;
const FILE_BYTES = 5_000_000;
const ENDPOINT = /endpoint[a-z2-7]+/;

const root = dirname(import.meta.dirname!);

/** What the demo shows did not happen. */
class DemoFailed extends Error {}

function tell(line: string): void {
  // deno-lint-ignore no-console -- a task talks to the terminal
  console.log(line);
}

/** Prepares what needs a network, and runs the demo where there is none. */
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
      LIMIT_MS,
    );
  } finally {
    // git-annex makes the folders of its objects read-only.
    await new Deno.Command("chmod", { args: ["-R", "u+w", folder], stderr: "null" }).output();
    await Deno.remove(folder, { recursive: true });
    tell("Cleaned up: the processes have ended, the folder is gone.");
  }
}

/** A repository with its own user's settings. */
class Repository {
  constructor(readonly name: string, readonly path: string, readonly env: Record<string, string>) {}

  /** Runs a git command. @throws {DemoFailed} if it fails, or does not end in time. */
  async git(args: string[], stdin?: string): Promise<string> {
    const child = new Deno.Command("git", {
      args,
      cwd: this.path,
      env: this.env,
      stdin: stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
      detached: true, // a group of its own, so that what git has started ends with it
    }).spawn();
    const timer = setTimeout(() => process.kill(-child.pid, "SIGKILL"), COMMAND_LIMIT_MS);
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

  /** Runs `git annex`, and tells so. */
  async annex(args: string[], stdin?: string): Promise<string> {
    tell(`  ${this.name}$ git annex ${args.join(" ")}`);
    return await this.git(["annex", ...args], stdin);
  }

  /** Starts git-annex's daemon, and waits until peers can come in. */
  async serve(): Promise<Deno.ChildProcess> {
    tell(`  ${this.name}$ git annex remotedaemon`);
    const daemon = new Deno.Command("git", {
      args: ["annex", "remotedaemon", "--foreground"],
      cwd: this.path,
      env: this.env,
      stdin: "piped", // at its end the daemon stops
      stdout: "null",
      stderr: "null",
    }).spawn();
    const log = join(this.path, ".git", "annex", "p2p-iroh", "log");
    const deadline = performance.now() + COMMAND_LIMIT_MS;
    while (!/serving/.test(await Deno.readTextFile(log).catch(() => ""))) {
      if (performance.now() > deadline) throw new DemoFailed(`${this.name} is not being served`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    return daemon;
  }
}

async function makeRepository(folder: string, name: string): Promise<Repository> {
  const home = join(folder, `${name}-home`), path = join(folder, name);
  await Deno.mkdir(home);
  const env = {
    HOME: home,
    XDG_CACHE_HOME: join(home, ".cache"),
    // Both belong to one user, whose repositories find each other in the runtime folder.
    XDG_RUNTIME_DIR: join(folder, "run"),
    PATH: [join(folder, "bin"), Deno.env.get("PATH")].join(delimiter),
    DENO_DIR: denoDir(),
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: join(home, "gitconfig"),
    GIT_ANNEX_P2P_IROH_RELAY: "none",
    GIT_ANNEX_P2P_IROH_LOOKUP: "none",
    // Where there are no namespaces, the network is a real one.
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

/** Repeats what git-annex may get stuck in. */
async function untilDone(what: string, attempt: () => Promise<boolean>): Promise<void> {
  for (let i = 1;; i++) {
    try {
      if (await attempt()) return;
      if (i === TRIES) throw new DemoFailed(`${what}: not done after ${TRIES} tries`);
      tell("  (not there yet; once more)");
    } catch (error) {
      if (!(error instanceof DemoFailed) || i === TRIES) throw error;
      tell(
        /no commits yet/.test(error.message)
          ? "  (the first sync of an empty repository takes a second one)"
          : "  (git-annex stumbled over itself; once more)",
      );
    }
  }
}

async function checksum(path: string): Promise<string | undefined> {
  const content = await Deno.readFile(path).catch(() => undefined); // not there yet
  if (!content) return undefined;
  return new Uint8Array(await crypto.subtle.digest("SHA-256", content)).toHex();
}

/** What people see. */
async function demo(folder: string): Promise<number> {
  const daemons: Deno.ChildProcess[] = [];
  try {
    await Deno.mkdir(join(folder, "bin"));
    await Deno.mkdir(join(folder, "run"), { mode: 0o700 });
    await installProgram(join(folder, "bin"));
    tell(
      sandbox() === "namespaces"
        ? "Alice and Bob each have a repository. This machine's network is out of reach for them."
        : "Alice and Bob each have a repository. Nothing is sent outside this machine's own network.",
    );
    const alice = await makeRepository(folder, "alice");
    const bob = await makeRepository(folder, "bob");

    tell("\n1. Each gets an address, which is a public key:");
    for (const repository of [alice, bob]) {
      await repository.annex(["p2p", "--enable", "iroh"]);
    }

    tell("\n2. Each lets peers in:");
    for (const repository of [alice, bob]) daemons.push(await repository.serve());

    tell("\n3. Each is told the other's address (on two machines, git annex p2p --pair does it):");
    for (const [from, to] of [[alice, bob], [bob, alice]] as const) {
      const addresses = await from.annex(["p2p", "--gen-addresses"]);
      tell(`    ${ENDPOINT.exec(addresses)![0]}`);
      await to.annex(["p2p", "--link", `--name=${from.name}`], addresses);
    }

    tell("\n4. Alice adds a file of 5 MB, and sends its name:");
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

    tell("\n5. Bob fetches it from Alice:");
    const started = performance.now();
    await untilDone("fetching the file", async () => {
      await bob.annex(["get", "photo.jpg"]);
      return await checksum(join(bob.path, "photo.jpg")) ===
        await checksum(join(alice.path, "photo.jpg"));
    });
    tell(`    ${((performance.now() - started) / 1000).toFixed(1)} s, and the checksums agree`);
    tell("\nWhat Alice's listener says in .git/annex/p2p-iroh/log:");
    const log = await Deno.readTextFile(join(alice.path, ".git", "annex", "p2p-iroh", "log"));
    for (const line of log.trim().split("\n").slice(-2)) tell(`    ${line}`);
    tell("\nDone.");
    return 0;
  } catch (error) {
    if (!(error instanceof DemoFailed)) throw error;
    tell(`The demo failed: ${error.message}`);
    return 1;
  } finally {
    for (const daemon of daemons) {
      await daemon.stdin.close();
      await daemon.status;
    }
    // The listeners find out by themselves that they are not needed any more.
    for (const name of daemons.length > 0 ? ["alice", "bob"] : []) {
      const log = join(folder, name, ".git", "annex", "p2p-iroh", "log");
      const deadline = performance.now() + COMMAND_LIMIT_MS;
      while (!/stopped\n$/.test(await Deno.readTextFile(log)) && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
    }
  }
}

if (import.meta.main) {
  const [folder] = Deno.args;
  Deno.exit(folder ? await demo(folder) : await main());
}
