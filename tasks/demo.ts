/**
 * deno task demo
 *
 * Shows the main job on one machine, without set-up and without the internet. Alice has a file and invites Bob, who
 * joins, and fetches it. All files are in a temporary folder, which is removed.
 */

import { basename, delimiter, dirname, join } from "node:path";
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
/** Interval between looks at a process that ends. */
const STOP_INTERVAL_MS = 100;
const FILE_BYTES = 5_000_000;
const INVITATION = /^annexinvite\w+$/m;

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

  /** Prints and starts a command of the program, and prints what it says. */
  start(args: string[], cwd = this.path): Started {
    tell(`  ${this.name}$ git-annex-p2p-iroh ${args.join(" ")}`);
    return new Started(
      new Deno.Command("git-annex-p2p-iroh", {
        args,
        cwd,
        env: this.env,
        stdin: "piped",
        stdout: "piped",
        stderr: "inherit",
      }).spawn(),
    );
  }

  /** Ends what serves the repository. */
  async stop(): Promise<void> {
    const path = join(this.path, ".git", "annex", "p2p-iroh", "up");
    const text = await Deno.readTextFile(path).catch(() => undefined); // nothing serves it
    const isAlive = (pid: number) => {
      try {
        process.kill(pid, 0);
        return true;
      } catch {
        return false; // it has ended
      }
    };
    if (text === undefined) return;
    const { pid } = JSON.parse(text);
    if (isAlive(pid)) process.kill(pid, "SIGTERM");
    while (isAlive(pid)) await delay(STOP_INTERVAL_MS);
  }
}

/** A command of the program that runs. It has time limits of its own, and repeats a fetch in which git-annex is stuck. */
class Started {
  #child: Deno.ChildProcess;
  #reading: Promise<void>;
  #text = "";
  #said = Promise.withResolvers<void>();

  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    const lines = this.#child.stdout.pipeThrough(new TextDecoderStream());
    for await (const text of lines) {
      this.#text += text;
      for (const line of text.split("\n").filter((line) => line)) tell(`    ${line}`);
      this.#said.resolve();
      this.#said = Promise.withResolvers();
    }
    this.#said.resolve();
  }

  /** Waits until it has printed something. @throws {DemoFailed} if it ends before. */
  async says(pattern: RegExp): Promise<string> {
    let isOver = false;
    this.#reading.then(() => isOver = true);
    for (;;) {
      const found = pattern.exec(this.#text)?.[0];
      if (found !== undefined) return found;
      if (isOver) throw new DemoFailed(`it ended without saying ${pattern}`);
      await this.#said.promise;
    }
  }

  /** Gives it a line, and waits until it has ended. @throws {DemoFailed} if it fails. */
  async end(line?: string): Promise<void> {
    const stdin = this.#child.stdin.getWriter();
    if (line !== undefined) await stdin.write(new TextEncoder().encode(`${line}\n`));
    await stdin.close();
    const { success } = await this.#child.status;
    await this.#reading;
    if (!success) throw new DemoFailed("it failed");
  }
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Makes a user with settings of its own. There is no repository yet. */
async function makeUser(folder: string, name: string): Promise<Repository> {
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
  return new Repository(name, path, env);
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
      tell("  (git-annex failed; again)");
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
  const alice = await makeUser(folder, "alice"), bob = await makeUser(folder, "bob");
  try {
    await Deno.mkdir(join(folder, "bin"));
    await Deno.mkdir(join(folder, "run"), { mode: 0o700 });
    await installProgram(join(folder, "bin"));
    tell(
      sandbox() === "namespaces"
        ? "Alice has a repository with a file of 5 MB, in a sandbox without this machine's network."
        : "Alice has a repository with a file of 5 MB. Nothing leaves this machine's loopback.",
    );
    await Deno.mkdir(alice.path);
    await alice.git(["init", "--quiet"]);
    await alice.annex(["init", "--quiet"]);
    const photo = new Uint8Array(FILE_BYTES);
    for (let i = 0; i < photo.length; i += 65536) {
      crypto.getRandomValues(photo.subarray(i, i + 65536));
    }
    await Deno.writeFile(join(alice.path, "photo.jpg"), photo);
    await alice.annex(["add", "--quiet", "photo.jpg"]);
    await alice.git(["commit", "--quiet", "--message", "a photo"]);

    tell("\n1. Alice invites Bob:");
    const inviting = alice.start(["invite"]);
    const invitation = await inviting.says(INVITATION);

    tell("\n2. Bob joins with the invitation, in a new folder:");
    const begun = performance.now();
    await bob.start(["join", basename(bob.path)], folder).end(invitation);
    await inviting.end();
    tell(`  Both are linked after ${seconds(begun)} s.`);

    tell("\n3. Bob fetches the photo from Alice:");
    const started = performance.now();
    await untilDone("fetching the file", async () => {
      await bob.annex(["get", "photo.jpg"]);
      return await checksum(join(bob.path, "photo.jpg")) ===
        await checksum(join(alice.path, "photo.jpg"));
    });
    tell(`    ${seconds(started)} s, and the checksums agree`);
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
    await Promise.all([alice.stop(), bob.stop()]); // by then all that they have started has ended, too
  }
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}

if (import.meta.main) {
  const [folder] = Deno.args;
  Deno.exit(folder ? await demo(folder) : await main());
}
