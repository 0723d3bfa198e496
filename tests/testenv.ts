/**
 * What a test of the whole program needs: folders, processes and hosts of its own, a time limit, and
 * everything on the screen when it fails.
 *
 * {@linkcode scenario} declares a test. It waits for conditions, never for a time; when it ends, in
 * whichever way, its processes (children of children, too) and folders are gone.
 */

import { delimiter, join } from "node:path";
import process from "node:process";
import { denoDir, installProgram, isCompiled } from "../tasks/program.ts";
import { canNameNamespaces } from "../tasks/sandbox.ts";
import { mayChown } from "./users.ts";

/** How often a condition is looked at that nobody announces. */
const LOOK_MS = 20;
/** Marks every process of a test, so that it can be found. */
const TEST_MARK = "GIT_ANNEX_P2P_IROH_TEST";
/** For each step of the clean-up. */
const CLEANUP_LIMIT_MS = 10_000;
/** What a process said last, where there is room for little. */
const SUMMARY_LENGTH = 300;
/** For a program that is only asked something. */
const RUN_LIMIT_MS = 60_000;

/** A program some tests need, found on PATH. */
export type Tool =
  | "git-annex"
  | "wormhole"
  | "dumbpipe"
  | "iroh-relay"
  | "iptables"
  | "groff"
  | "bash"
  | "zsh"
  | "fish"
  /** Network namespaces, for hosts of their own. */
  | "namespaces"
  /** Root of the machine, who can give files to other users. */
  | "users"
  /** Linux's list of processes, and what they have open. */
  | "proc"
  | "setpriv"
  | "timeout"
  /** A program under test that was compiled, */
  | "compiled"
  /** and if it was, with a Deno that can join multicast groups. */
  | "multicast";

/** What is not there in each way to run the tests, and so is not missed: macOS lacks some of Linux. */
const MAY_LACK: readonly Tool[] = [
  "compiled",
  "multicast",
  ...Deno.build.os === "darwin" ? ["proc", "timeout"] as const : [],
];

/** What to say of a test. */
export interface ScenarioOptions {
  /** Without these it is skipped, or fails where `CI=true`. */
  readonly needs?: readonly Tool[];
  readonly limitMs?: number;
  /** It keeps all processors busy, or is soon done only if nobody else does: one such test runs at a time. */
  readonly takesTurns?: boolean;
}

/** Declares a test that keeps what `name` promises. */
export function scenario(
  name: string,
  { needs = [], limitMs = 60_000, takesTurns = false }: ScenarioOptions,
  body: (env: TestEnv) => Promise<void>,
): void {
  const reason = whatIsMissing(needs);
  Deno.test({
    ...named(name, ...needs),
    // Processes are waited for in the test's environment, whose end may come before theirs.
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      if (reason) throw new Error(reason);
      using _turn = takesTurns ? await turn() : undefined;
      const env = await TestEnv.make(limitMs);
      const failures: unknown[] = [];
      using _ = new Uncaught((error) => {
        failures.push(error);
        env.fail(error);
      });
      await env.within(body(env)).catch((error) => {
        if (!failures.includes(error)) failures.push(error);
      });
      const summary = failures.length > 0 ? env.summary() : "";
      if (failures.length > 0) env.show();
      await env[Symbol.asyncDispose]().catch((error) => failures.push(error));
      if (failures.length === 0) return;
      // The reason of each is to be seen, which a SuppressedError does not show.
      const reasons = failures.map((error) =>
        error instanceof Error ? error.message : String(error)
      );
      const message = [...reasons, summary].join("\n");
      if (failures.length > 1) throw new AggregateError(failures, message);
      throw new Error(message, { cause: failures[0] });
    },
  });
}

/** A test's name, with the reason if it is skipped for what it needs, as {@linkcode scenario} has it. */
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
 * Errors that nobody catches, while this is not disposed of. They are to fail the test and leave the
 * process alone: Deno ends the thread of the whole test file at once, and with iroh at work on it that
 * is a segmentation fault, which tells nobody why.
 */
class Uncaught implements Disposable {
  readonly #over = new AbortController();

  /** @param fail Is given each. */
  constructor(fail: (error: Error) => void) {
    const { signal } = this.#over;
    addEventListener("unhandledrejection", (event) => {
      event.preventDefault();
      fail(new Error(`nobody handles ${event.reason}`, { cause: event.reason }));
    }, { signal });
    addEventListener("error", (event) => {
      event.preventDefault();
      fail(new Error(`nobody catches ${event.error}`, { cause: event.error }));
    }, { signal });
  }

  [Symbol.dispose](): void {
    this.#over.abort();
  }
}

/** Waits until it is this test's turn; disposed of, it is the next one's, in whichever test file. */
async function turn(): Promise<Disposable> {
  const file = await Deno.open(import.meta.filename!);
  await file.lock(true);
  return file;
}

/** Whether a tool is there. */
export function hasTool(tool: Tool): boolean {
  switch (tool) {
    case "namespaces":
      return canNameNamespaces() && isOnPath("ip");
    case "users":
      return mayChown();
    case "proc":
      return isFile("/proc/self/maps");
    case "compiled":
      return isCompiled();
    case "multicast":
      return hasTool("namespaces") && Deno.env.get("GIT_ANNEX_P2P_IROH_MULTICAST") !== "no";
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
  /** Bytes for its stdin, which is then closed; or "open" to write to it; by default it has none. */
  readonly stdin?: string | Uint8Array | "open";
  /** False to leave its stdout to {@linkcode Started.stdoutReader}. */
  readonly collect?: boolean;
}

/** A host: folders and a network of its own, as far as the machine lets it have one. */
export interface Host {
  readonly name: string;
  readonly ip: string;
  /** What to put before a command to run it there. */
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
    return new TestEnv(await Deno.makeTempDir({ prefix: "p2p-iroh-test-" }), limitMs);
  }

  /** Ends the test, as its time limit does. */
  fail(error: Error): void {
    this.#limit.abort(error);
  }

  /** The outcome of a promise, or a failure at the test's time limit. */
  within<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(resolve, reject);
      this.signal.addEventListener("abort", () => reject(this.signal.reason));
    });
  }

  /** Something to undo at the end, in reverse order. */
  cleanup(undo: () => Promise<void>): void {
    this.#cleanups.push(undo);
  }

  /** A host on this machine's own loopback. Each has its folders. */
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
      TMPDIR: join(dir, "tmp"),
      PATH: [join(dir, "bin"), Deno.env.get("PATH")].join(delimiter),
      DENO_DIR: denoDir(),
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_CONFIG_GLOBAL: join(dir, "home", "gitconfig"),
      // So that nothing is ever dialed outside, whatever a test forgets.
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

  /** Starts a program. It is ended at the end of the test, if it has not ended before. */
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

  /** Runs a program to its end, within {@linkcode RUN_LIMIT_MS} or the test's own limit. */
  async run(command: readonly string[], options: StartOptions = {}): Promise<Run> {
    const started = await this.start(command, options);
    const timer = setTimeout(() => started.kill("SIGKILL"), RUN_LIMIT_MS);
    try {
      return await this.within(started.ended);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Runs a program that must exit 0, and returns its stdout. */
  async ok(command: readonly string[], options: StartOptions = {}): Promise<string> {
    const run = await this.run(command, options);
    if (run.code !== 0) throw new Error(`${command.join(" ")}: exit status ${run.code}`);
    return run.stdout;
  }

  /** The program under test. */
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

  /** Prints what every process of the test has said. */
  show(): void {
    for (const started of this.#started) {
      console.log(`--- ${started.name} (exit status ${started.code ?? "none yet"})`);
      if (started.stdout) console.log(`stdout: ${clip(started.stdout)}`);
      if (started.stderr) console.log(`stderr: ${clip(started.stderr)}`);
    }
  }

  /** What became of each process, in a line or two: a report of a failure may hold no more. */
  summary(): string {
    return this.#started.map(({ name, code, stderr }) => {
      const program = name.split(" ", 1)[0], end = stderr.trimEnd().slice(-SUMMARY_LENGTH);
      return `${program}: exit status ${code ?? "none yet"}, said at the end: ${end}`;
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
      // git-annex makes the folders of its objects read-only.
      () => new Deno.Command("chmod", { args: ["-R", "u+w", this.dir], stderr: "null" }).output(),
      () => Deno.remove(this.dir, { recursive: true }),
    ];
    for (const step of steps) {
      try {
        await limited(step());
      } catch (error) {
        failed.push(error); // and the other steps are taken nevertheless
      }
    }
    if (failed.length > 0) {
      throw new AggregateError(failed, `cannot clean up: ${failed.join(", ")}`);
    }
  }

  /** Ends whatever a program of this test has left in the background. */
  async #killMarked(): Promise<void> {
    if (Deno.build.os !== "linux") return;
    for (;;) {
      const pids = await this.marked();
      if (pids.length === 0) return;
      for (const pid of pids) killQuietly(pid, "SIGKILL");
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Ids of the test's processes that are alive (Linux). */
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
      const { stdout, stderr } = this;
      return { code, stdout, stderr, stdoutBytes: concat(this.#chunks) };
    });
  }

  /** Its stdout, when it is not collected. */
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
      if (this.code !== undefined) throw new Error(`${this.name} ended without saying ${pattern}`);
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
      // It ended without reading all of it, which its exit status will explain.
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

/** The outcome of a step of the clean-up, which none may hold up. */
function limited(step: Promise<unknown>): Promise<unknown> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("it does not end")), CLEANUP_LIMIT_MS);
  return Promise.race([step, promise]).finally(() => clearTimeout(timer));
}

/** Sends a signal to a process that this test has started; it may have ended. */
export function killQuietly(pid: number, signal: Deno.Signal): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as { code?: string }).code !== "ESRCH") throw error;
  }
}

/** Resident memory of a process, in MiB (Linux, proc(5)). */
export async function memoryOf(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) / 1024;
}

/** How many file descriptors a process has open. */
export async function openFilesOf(pid: number): Promise<number> {
  return (await Array.fromAsync(Deno.readDir(`/proc/${pid}/fd`))).length;
}

/** One array of several. */
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
  const text = output.replace(/[^\n\x20-\x7e]/g, "·"); // a terminal takes no harm from test data
  return text.length > 6000 ? `${text.slice(0, 1000)}\n[…]\n${text.slice(-5000)}` : text;
}
