/**
 * Runs `git annex remotedaemon --foreground` with all that it starts: the listener, connecting processes, git.
 *
 * They are a process group of their own, so that a terminal's Ctrl-C does not reach them, and so that all can
 * be ended. At its head, a shell waits for remotedaemon, and then tells the others to end. So nothing
 * stays even if this process is killed: remotedaemon ends with its stdin. If it hangs, the next `up` ends it.
 */

import { abortable } from "../async/abort.ts";
import { Failure } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { groupEnds, processInfo, signalGroup } from "../platform/processes.ts";
import { readLines } from "../streams/lines.ts";
import { type DaemonMessage, parseDaemonMessage, RELOAD } from "./daemon_message.ts";

/** The shell ignores the signal that it sends to its group. */
const SCRIPT =
  'git annex remotedaemon --foreground; status=$?; trap "" TERM; kill -s TERM 0; exit "$status"';
/** Returns the arguments of the shell. By the repository's git directory, the next `up` knows it again. */
function shellArguments(gitDir: string): string[] {
  return ["-c", SCRIPT, "sh", gitDir];
}
/** Maximum length of a line that is looked at; a URL has at most some hundred characters. */
const MAX_LINE_CHARACTERS = 8_192;
/** Timeout for remotedaemon to end after its stdin. It takes some milliseconds. */
const END_TIMEOUT_MS = 2_000;
/** Timeout for the others: a listener drains for 10 s, and closes its endpoint for 3 s. */
const GROUP_TIMEOUT_MS = 13_500;
/** Timeout for what was killed to be gone; a process that waits for a disk is not gone at once. */
const KILLED_TIMEOUT_MS = 2_000;
/** Timeout for the last words of a remotedaemon that has ended. A child may hold its stderr for longer. */
const LAST_WORDS_TIMEOUT_MS = 500;

/** What is called as it happens. */
export interface DaemonListener {
  readonly message: (message: DaemonMessage) => void;
  /** Gets each line of stderr. */
  readonly said: (line: string) => void;
}

/** Why a remotedaemon has ended. */
export interface DaemonEnd {
  readonly exitStatus: number;
  /** The last line on stderr; empty if there was none. */
  readonly lastWords: string;
}

/** A remotedaemon that runs until it ends, or until it is disposed of. */
export class RemoteDaemon implements AsyncDisposable {
  /** Id of the process group. */
  readonly group: number;
  /** Resolves when it has ended. Others of the group may still run. */
  readonly ended: Promise<DaemonEnd>;
  #status: Promise<Deno.CommandStatus>;
  #stdin: WritableStreamDefaultWriter<Uint8Array>;
  #lastWords = "";
  #disposed = new AbortController();

  private constructor(child: Deno.ChildProcess, listener: DaemonListener) {
    this.group = child.pid;
    this.#status = child.status;
    this.#stdin = child.stdin.getWriter();
    // If this process exits in haste, such as at a second signal, nothing is left behind.
    const { signal } = this.#disposed;
    addEventListener("unload", () => signalGroup(this.group, "SIGKILL"), { signal });
    this.#stdin.closed.catch(() => {}); // it no longer reads: `ended` follows
    const stdout = this.#read(child.stdout, (line) => {
      const message = parseDaemonMessage(line);
      if (message) listener.message(message);
      else debug(() => `remotedaemon says ${line}`);
    });
    const stderr = this.#read(child.stderr, (line) => {
      if (line.trim() === "" || isOfBacktrace(line)) return;
      this.#lastWords = line.trim();
      listener.said(line);
    });
    this.ended = child.status.then(async ({ code }) => {
      const timeout = AbortSignal.timeout(LAST_WORDS_TIMEOUT_MS);
      await abortable(Promise.all([stdout, stderr]), timeout).catch(() => {}); // children go on
      return { exitStatus: code, lastWords: this.#lastWords };
    });
  }

  /** Starts remotedaemon in a folder of the repository. @throws {Failure} if there is no shell. */
  static start(folder: string, gitDir: string, listener: DaemonListener): RemoteDaemon {
    try {
      const command = new Deno.Command("sh", {
        args: shellArguments(gitDir),
        cwd: folder,
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
        detached: true, // a session of its own, and so a process group
      });
      return new RemoteDaemon(command.spawn(), listener);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      throw new Failure("sh is not on PATH, or the folder is gone", { hint: "correct PATH" });
    }
  }

  /** The last line on stderr until now; empty if there was none. */
  get lastWords(): string {
    return this.#lastWords;
  }

  /** Makes it read git config and addresses again. */
  reload(): void {
    // A remotedaemon that reads nothing does not get more and more to read.
    if ((this.#stdin.desiredSize ?? 0) <= 0) return;
    this.#stdin.write(new TextEncoder().encode(RELOAD)).catch((error) => {
      debug(() => `RELOAD: ${error}`); // it has ended
    });
  }

  /** Ends remotedaemon and all that it has started, and waits for their end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stdin.abort().catch(() => {}); // it has ended
    const timeout = AbortSignal.timeout(END_TIMEOUT_MS);
    const isEnded = await abortable(this.#status, timeout).then(() => true, () => false);
    if (!isEnded) tellToEnd(this.group); // the shell has not yet told the others
    await endGroup(this.group);
    this.#disposed.abort();
  }

  async #read(stream: ReadableStream<Uint8Array>, line: (line: string) => void): Promise<void> {
    try {
      const { signal } = this.#disposed;
      const readable = stream.pipeThrough(new TransformStream<Uint8Array, Uint8Array>(), {
        signal,
      });
      for await (const text of readLines(readable, MAX_LINE_CHARACTERS)) line(text);
    } catch (error) {
      debug(() => `reading from remotedaemon: ${error}`);
    }
  }
}

/** What an `up` has left that was killed. */
export interface LeftBehind {
  /** The process id of that `up`. */
  readonly pid: number;
  /** The process group of its remotedaemon. */
  readonly group: number;
}

/** Ends what an `up` of this repository has left, if remotedaemon has not noticed that its stdin has ended. */
export async function endLeftBehind({ pid, group }: LeftBehind, gitDir: string): Promise<void> {
  const isLeft = async () => {
    const head = await processInfo(group); // another process may have that id by now
    return head?.group === group && head.parent !== pid &&
      head.command.endsWith(["", ...shellArguments(gitDir)].join(" "));
  };
  if (!await isLeft() || await groupEnds(group, END_TIMEOUT_MS) || !await isLeft()) return;
  debug(() => `ending process group ${group}, which up (process ${pid}) has left`);
  tellToEnd(group);
  await endGroup(group);
}

/** Tells a group to end, also if it is stopped. */
function tellToEnd(group: number): void {
  signalGroup(group, "SIGTERM");
  signalGroup(group, "SIGCONT");
}

/** Waits until a group that was told to end has ended, and kills what has not. */
async function endGroup(group: number): Promise<void> {
  if (await groupEnds(group, GROUP_TIMEOUT_MS)) return;
  signalGroup(group, "SIGKILL");
  await groupEnds(group, KILLED_TIMEOUT_MS);
}

/** Tells whether a line belongs to the backtrace that git-annex prints below an error (GHC 9.10 and later). */
function isOfBacktrace(line: string): boolean {
  return /^HasCallStack backtrace:$|^ {2}\S+, called at \S+:\d+:\d+ in /.test(line);
}
