/**
 * What a test of the whole program needs: folders, processes and hosts of its own, and a time limit. If it
 * fails, it shows what all its processes have printed.
 *
 * {@linkcode scenario} declares a test. A test waits for conditions, never for a time. At its end, its
 * processes (with their descendants) and folders are removed.
 */

import assert from "node:assert/strict";
import { delimiter, join } from "node:path";
import process from "node:process";
import { denoDir, installProgram, isCompiled } from "../tasks/program.ts";
import { canNameNamespaces } from "../tasks/sandbox.ts";
import { mayChown } from "./users.ts";

/** Interval between looks at a condition. */
const LOOK_MS = 20;
/** Variable in the environment of each process of a test, by which the clean-up finds it. */
const TEST_MARK = "GIT_ANNEX_P2P_IROH_TEST";
/** Timeout for each step of the clean-up. */
const CLEANUP_TIMEOUT_MS = 10_000;
/** Length of a step's code by which an error names it. */
const STEP_NAME_LENGTH = 100;
/** Timeout for a turn, a slot and the clean-up together: as long as all tests may take (tasks/test.ts). */
const QUEUE_TIMEOUT_MS = 900_000;
/**
 * Slots for tests that do more than wait, so that at most four of them share the processors. A slot is the
 * lock on a file; which files these are does not matter.
 */
const SLOTS = ["annex.ts", "friends.ts", "network.ts", "pair.ts"];
/** The file that is locked by the test which waits for a slot; so the next one comes after it. */
const QUEUE = "tools.ts";
/** Maximum length of what the summary shows of a process. */
const SUMMARY_LENGTH = 300;
/** Timeout for a program that {@linkcode TestEnv.run} starts. */
const RUN_TIMEOUT_MS = 60_000;

/** Something that some tests need; a program on PATH, unless a comment says otherwise. */
export type Tool =
  | "git-annex"
  | "wormhole"
  | "dumbpipe"
  | "iroh-relay"
  | "iptables"
  | "faketime"
  | "groff"
  | "bash"
  | "zsh"
  | "fish"
  /** Network namespaces, for hosts of their own. */
  | "namespaces"
  /** Root of the machine, which can give files to other users. */
  | "users"
  /** `/proc`, which shows the processes of Linux and their open files. */
  | "proc"
  | "setpriv"
  | "timeout"
  /** A session of systemd, which root can start. */
  | "systemd"
  | "systemd-analyze"
  /** A program under test that was compiled. */
  | "compiled";

/** Tools whose lack is no failure where `CI=true`. macOS has no `/proc`, timeout(1), faketime(1) or systemd. */
const MAY_LACK: readonly Tool[] = [
  "compiled",
  "systemd",
  ...Deno.build.os === "darwin" ? ["proc", "timeout", "faketime", "systemd-analyze"] as const : [],
];

/** What a test needs, and how it shares the machine with others. */
export interface ScenarioOptions {
  /** If one of these is missing, the test is skipped, or fails where `CI=true`. */
  readonly needs?: readonly Tool[];
  readonly limitMs?: number;
  /**
   * The test keeps all processors busy, or measures how fast something is done. One such test runs at a time.
   */
  readonly takesTurns?: boolean;
  /** The test mostly waits for a time limit of the program, so it takes no slot from the others. */
  readonly waits?: boolean;
}

/** Declares a test that keeps what `name` promises. */
export function scenario(
  name: string,
  { needs = [], limitMs = 60_000, takesTurns = false, waits = false }: ScenarioOptions,
  body: (env: TestEnv) => Promise<void>,
): void {
  const reason = whatIsMissing(needs);
  Deno.test({
    ...named(name, ...needs),
    // The end of a test may come before that of a process on which its environment waits.
    sanitizeOps: false,
    sanitizeResources: false,
    timeout: limitMs + QUEUE_TIMEOUT_MS,
    fn: async () => {
      if (reason) throw new Error(reason);
      using _turn = takesTurns ? await turn() : undefined;
      using _slot = waits ? undefined : await slot();
      const env = await TestEnv.make(limitMs);
      const failures: unknown[] = [];
      using _ = new Uncaught((error) => {
        failures.push(error);
        env.fail(error);
      });
      const running = body(env);
      await env.within(running).catch((error) => {
        if (!failures.includes(error)) failures.push(error);
      });
      const summary = failures.length > 0 ? env.summary() : "";
      if (failures.length > 0) env.show();
      await env[Symbol.asyncDispose]().catch((error) => failures.push(error));
      // A test whose time is up may hold endpoints that are still to be closed. If a call of iroh is under way when
      // the thread of the test file ends, iroh crashes the whole run.
      await limited(running, "the test").catch(() => {}); // its error is noted
      if (failures.length === 0) return;
      // Deno does not show the errors inside of a SuppressedError.
      const reasons = failures.map((error) =>
        error instanceof Error ? error.message : String(error)
      );
      const message = [...reasons, summary].join("\n");
      if (failures.length > 1) throw new AggregateError(failures, message);
      throw new Error(message, { cause: failures[0] });
    },
  });
}

/** Returns a test's name, with the reason if it is skipped since a tool is missing. */
export function named(name: string, ...needs: readonly Tool[]): { name: string; ignore: boolean } {
  const reason = whatIsMissing(needs);
  const isWanted = Deno.env.get("CI") === "true" &&
    !needs.some((tool) => MAY_LACK.includes(tool) && !hasTool(tool));
  if (!reason || isWanted) return { name, ignore: false };
  return { name: `${name} (skipped: ${reason})`, ignore: true };
}

function whatIsMissing(needs: readonly Tool[]): string | undefined {
  const missing = needs.filter((tool) => !hasTool(tool));
  return missing.length > 0 ? `needs ${missing.join(", ")}` : undefined;
}

/**
 * Catches errors that no code handles, until it is disposed of. They fail the test. By default Deno would end
 * the thread of the test file, and if iroh is at work on it, the process crashes without a reason.
 */
class Uncaught implements Disposable {
  readonly #disposed = new AbortController();

  /** @param fail Gets each error. */
  constructor(fail: (error: Error) => void) {
    const { signal } = this.#disposed;
    addEventListener("unhandledrejection", (event) => {
      event.preventDefault();
      fail(new Error(`unhandled rejection: ${event.reason}`, { cause: event.reason }));
    }, { signal });
    addEventListener("error", (event) => {
      event.preventDefault();
      fail(new Error(`uncaught error: ${event.error}`, { cause: event.error }));
    }, { signal });
  }

  [Symbol.dispose](): void {
    this.#disposed.abort();
  }
}

/** Waits for the turn of a test that takes turns; the next one's comes when it is disposed of. */
async function turn(): Promise<Disposable> {
  const file = await open("testenv.ts");
  await file.lock(true);
  return file;
}

/** Waits for one of {@linkcode SLOTS}, and takes it until it is disposed of. */
async function slot(): Promise<Disposable> {
  using queue = await open(QUEUE);
  await queue.lock(true);
  for (;;) {
    for (const name of SLOTS) {
      const file = await open(name);
      if (await file.tryLock(true)) return file;
      file.close();
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Opens a file of this folder, to be locked: tests of other files are in other threads. */
function open(name: string): Promise<Deno.FsFile> {
  return Deno.open(join(import.meta.dirname!, name));
}

/** Tells whether a tool is there. */
export function hasTool(tool: Tool): boolean {
  switch (tool) {
    case "namespaces":
      return canNameNamespaces() && isOnPath("ip");
    case "users":
      return mayChown();
    case "proc":
      return isFile("/proc/self/maps");
    case "systemd":
      return mayChown() && canNameNamespaces() && isFile("/usr/lib/systemd/systemd");
    case "compiled":
      return isCompiled();
    default:
      return isOnPath(tool);
  }
}

function isOnPath(program: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(delimiter).some((folder) =>
    isFile(join(folder, program))
  );
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false; // not there
  }
}

/** The outcome of a program that has ended. */
export interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly stdoutBytes: Uint8Array;
}

/** How a program is started. */
export interface StartOptions {
  readonly on?: Host;
  readonly cwd?: string;
  readonly env?: Record<string, string>;
  /** Bytes for its stdin, which then ends; "open" to write to it; by default it has none. */
  readonly stdin?: string | Uint8Array | "open";
  /** False if the test reads its stdout from {@linkcode Started.stdoutReader}. */
  readonly collect?: boolean;
}

/** A host: folders, and a network of its own if the machine has namespaces. */
export interface Host {
  readonly name: string;
  readonly ip: string;
  /** What comes before a command that runs on the host. */
  readonly prefix: readonly string[];
  readonly dir: string;
  readonly env: Record<string, string>;
}

/** The folders and processes of one test. */
export class TestEnv implements AsyncDisposable {
  readonly dir: string;
  /** Aborted at the test's time limit. */
  readonly signal: AbortSignal;
  #id = crypto.randomUUID();
  #hosts = new Map<string, Host>();
  #started: Started[] = [];
  #cleanups: (() => Promise<void>)[] = [];
  #limit = new AbortController();
  #timer: ReturnType<typeof setTimeout>;

  private constructor(dir: string, limitMs: number) {
    this.dir = dir;
    this.signal = this.#limit.signal;
    this.#timer = setTimeout(
      () => this.#limit.abort(new Error(`not done within ${limitMs / 1000} s`)),
      limitMs,
    );
  }

  static async make(limitMs: number): Promise<TestEnv> {
    // The folder of macOS for temporary files has too long a name for sockets below it.
    const options = Deno.build.os === "darwin" ? { dir: "/tmp" } : {};
    return new TestEnv(await Deno.makeTempDir({ ...options, prefix: "p2p-iroh-test-" }), limitMs);
  }

  /** Ends the test, as its time limit does. */
  fail(error: Error): void {
    this.#limit.abort(error);
  }

  /** Waits for a promise, at most until the test's time limit. */
  within<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(resolve, reject);
      this.signal.addEventListener("abort", () => reject(this.signal.reason));
    });
  }

  /** Registers an action for the end of the test; the last one registered runs first. */
  cleanup(undo: () => Promise<void>): void {
    this.#cleanups.push(undo);
  }

  /** Makes a host, by default on the test's own loopback; returns it if the name is known. */
  async host(name: string, prefix: readonly string[] = [], ip = "127.0.0.1"): Promise<Host> {
    const known = this.#hosts.get(name);
    if (known) return known;
    const dir = join(this.dir, name);
    for (const folder of ["home", "run", "tmp", "bin"]) {
      await Deno.mkdir(join(dir, folder), { recursive: true, mode: 0o700 });
    }
    await installProgram(join(dir, "bin"));
    const env = {
      HOME: join(dir, "home"),
      XDG_CACHE_HOME: join(dir, "home", ".cache"),
      XDG_RUNTIME_DIR: join(dir, "run"),
      // No test talks to the session of the user who runs it.
      DBUS_SESSION_BUS_ADDRESS: `unix:path=${join(dir, "run", "bus")}`,
      TMPDIR: join(dir, "tmp"),
      PATH: [join(dir, "bin"), Deno.env.get("PATH")].join(delimiter),
      DENO_DIR: denoDir(),
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_CONFIG_GLOBAL: join(dir, "home", "gitconfig"),
      // By default no test dials hosts outside of the machine.
      GIT_ANNEX_P2P_IROH_RELAY: "none",
      GIT_ANNEX_P2P_IROH_LOOKUP: "none",
      GIT_ANNEX_P2P_IROH_LAN: "false",
      DENO_NO_UPDATE_CHECK: "1",
      NO_COLOR: "1",
    };
    await Deno.writeTextFile(
      env.GIT_CONFIG_GLOBAL,
      `[user]\nname = ${name}\nemail = ${name}@example.com\n[init]\ndefaultBranch = main\n`,
    );
    const host = { name, ip, prefix, dir, env };
    this.#hosts.set(name, host);
    return host;
  }

  /** Starts a program. The end of the test kills it. */
  async start(command: readonly string[], options: StartOptions = {}): Promise<Started> {
    const host = options.on ?? await this.host("host");
    const [program, ...args] = [...host.prefix, ...command];
    const child = new Deno.Command(program!, {
      args,
      cwd: options.cwd ?? host.dir,
      env: { ...host.env, [TEST_MARK]: this.#id, ...options.env },
      stdin: options.stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const started = new Started(command.join(" "), child, options, this);
    this.#started.push(started);
    return started;
  }

  /** Runs a program to its end, for at most {@linkcode RUN_TIMEOUT_MS}. */
  async run(command: readonly string[], options: StartOptions = {}): Promise<Run> {
    const started = await this.start(command, options);
    const timer = setTimeout(() => started.kill("SIGKILL"), RUN_TIMEOUT_MS);
    try {
      return await this.within(started.ended);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Runs a program that must exit 0. @returns Its stdout. */
  async ok(command: readonly string[], options: StartOptions = {}): Promise<string> {
    const run = await this.run(command, options);
    if (run.code !== 0) throw new Error(`${command.join(" ")}: exit status ${run.code}`);
    return run.stdout;
  }

  /** Runs the program under test. */
  iroh(args: readonly string[], options: StartOptions = {}): Promise<Run> {
    return this.run(["git-annex-p2p-iroh", ...args], options);
  }

  /** Waits for a condition. */
  async until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
    while (!await condition()) {
      if (this.signal.aborted) throw new Error(`was waiting for ${what}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Prints the output of each process of the test. */
  show(): void {
    for (const started of this.#started) {
      console.log(`--- ${started.name} (exit status ${started.code ?? "none yet"})`);
      if (started.stdout) console.log(`stdout: ${clip(started.stdout)}`);
      if (started.stderr) console.log(`stderr: ${clip(started.stderr)}`);
    }
  }

  /** Returns a line for each process, since reports of failures are cut off. */
  summary(): string {
    return this.#started.map(({ name, code, stderr }) => {
      const program = name.split(" ", 1)[0], end = stderr.trimEnd().slice(-SUMMARY_LENGTH);
      return `${program}: exit status ${code ?? "none yet"}, stderr ends with: ${end}`;
    }).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    for (const started of this.#started) started.kill("SIGKILL");
    const failed: unknown[] = [];
    const steps = [
      () => this.#killMarked(),
      () => Promise.all(this.#started.map((started) => started.ended)),
      ...this.#cleanups.reverse(),
      // git-annex write-protects the folders of its objects.
      () => new Deno.Command("chmod", { args: ["-R", "u+w", this.dir], stderr: "null" }).output(),
      () => Deno.remove(this.dir, { recursive: true }),
    ];
    for (const step of steps) {
      try {
        await limited(step(), `${step}`);
      } catch (error) {
        failed.push(error); // the other steps follow nevertheless
      }
    }
    if (failed.length > 0) {
      throw new AggregateError(failed, `cannot clean up: ${failed.join(", ")}`);
    }
  }

  /** Kills what programs of this test have left in the background. */
  async #killMarked(): Promise<void> {
    if (Deno.build.os !== "linux") return;
    for (;;) {
      const pids = await this.marked();
      if (pids.length === 0) return;
      for (const pid of pids) killQuietly(pid, "SIGKILL");
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Returns the ids of the test's processes that are alive (Linux). */
  async marked(): Promise<number[]> {
    const pids: number[] = [];
    for await (const { name } of Deno.readDir("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      const environ = await Deno.readTextFile(`/proc/${name}/environ`).catch(() => ""); // ended
      if (environ.includes(`${TEST_MARK}=${this.#id}`)) pids.push(Number(name));
    }
    return pids;
  }
}

/** A program that has been started. */
export class Started {
  stdout = "";
  stderr = "";
  /** Exit status, once it has ended. */
  code: number | undefined;
  readonly ended: Promise<Run>;
  readonly pid: number;
  #child: Deno.ChildProcess;
  #writer: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #chunks: Uint8Array[] = [];
  /** True once it has ended and all that it said is here, which may be a moment after {@linkcode code} is. */
  #isOver = false;
  #env: TestEnv;

  constructor(
    readonly name: string,
    child: Deno.ChildProcess,
    options: StartOptions,
    env: TestEnv,
  ) {
    this.#child = child;
    this.#env = env;
    this.pid = child.pid;
    const { stdin, collect = true } = options;
    if (stdin !== undefined) this.#writer = child.stdin.getWriter();
    if (stdin !== undefined && stdin !== "open") this.#feed(stdin);
    const done = [
      collect
        ? this.#collect(child.stdout, (bytes, text) => {
          this.#chunks.push(bytes);
          this.stdout += text;
        })
        : Promise.resolve(),
      this.#collect(child.stderr, (_, text) => this.stderr += text),
    ];
    this.ended = child.status.then(async ({ code }) => {
      this.code = code;
      await Promise.all(done);
      this.#isOver = true;
      const { stdout, stderr } = this;
      return { code, stdout, stderr, stdoutBytes: concat(this.#chunks) };
    });
  }

  /** Its stdout, if it is not collected. */
  get stdoutReader(): ReadableStream<Uint8Array> {
    return this.#child.stdout;
  }

  /** Its stdin. */
  get stdin(): WritableStreamDefaultWriter<Uint8Array> {
    return this.#writer!;
  }

  /** Writes to its stdin. */
  async write(data: string | Uint8Array): Promise<void> {
    await this.#writer!.write(typeof data === "string" ? new TextEncoder().encode(data) : data);
  }

  /** Ends its stdin. */
  async end(): Promise<void> {
    await this.#writer!.close();
  }

  /** Waits for text on its stdout or stderr; fails if it ends before. */
  async says(pattern: RegExp): Promise<string> {
    await this.#env.until(`${this.name} to say ${pattern}`, () => {
      if (pattern.test(this.stdout) || pattern.test(this.stderr)) return true;
      if (this.#isOver) throw new Error(`${this.name} ended without saying ${pattern}`);
      return false;
    });
    return (pattern.exec(this.stdout) ?? pattern.exec(this.stderr))![0];
  }

  kill(signal: Deno.Signal): void {
    if (this.code === undefined) killQuietly(this.pid, signal);
  }

  async #feed(stdin: string | Uint8Array): Promise<void> {
    try {
      await this.write(stdin);
      await this.end();
    } catch {
      // The program ended without reading all of its stdin; its exit status explains why.
    }
  }

  async #collect(
    stream: ReadableStream<Uint8Array>,
    add: (bytes: Uint8Array, text: string) => void,
  ): Promise<void> {
    const decoder = new TextDecoder("latin1");
    for await (const bytes of stream) add(bytes, decoder.decode(bytes, { stream: true }));
  }
}

/** Waits for a step of the clean-up, for at most {@linkcode CLEANUP_TIMEOUT_MS}. @param name For the error. */
function limited(step: Promise<unknown>, name: string): Promise<unknown> {
  const { promise, reject } = Promise.withResolvers<never>();
  const error = new Error(`it does not end: ${name.slice(0, STEP_NAME_LENGTH)}`);
  const timer = setTimeout(() => reject(error), CLEANUP_TIMEOUT_MS);
  return Promise.race([step, promise]).finally(() => clearTimeout(timer));
}

/** Sends a signal to a process, which may have ended. */
export function killQuietly(pid: number, signal: Deno.Signal): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as { code?: string }).code !== "ESRCH") throw error;
  }
}

/** Returns the resident memory of a process in MiB (Linux, proc(5)). */
export async function memoryOf(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) / 1024;
}

/** Returns the number of file descriptors that a process has open. */
export async function openFilesOf(pid: number): Promise<number> {
  return (await Array.fromAsync(Deno.readDir(`/proc/${pid}/fd`))).length;
}

/** Joins arrays. */
export function concat(chunks: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.length;
  }
  return whole;
}

function clip(output: string): string {
  const text = output.replace(/[^\n\x20-\x7e]/g, "·"); // so that test data does not disturb a terminal
  return text.length > 6000 ? `${text.slice(0, 1000)}\n[…]\n${text.slice(-5000)}` : text;
}

/** Checks that stderr is one line of the program, and that it shows nothing of the code. */
export function assertOneLine(stderr: string): void {
  assert.match(stderr, /^git-annex-p2p-iroh: [^\n]+\n$/);
  assert.doesNotMatch(stderr, /backtrace|\sat\s|undefined|\[object|Error:|panicked/);
}
