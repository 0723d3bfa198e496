/** Prints events to stdout, and writes them to a log file. */

import { print } from "../console/stdout.ts";
import type { LogFile } from "../console/log_file.ts";
import { abortable } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { eventJson, eventText, type UpEvent } from "./event.ts";

/** Maximum number of lines that wait for a reader of stdout. Others are only in the log. */
const MAX_WAITING_LINES = 1_000;
/** Timeout for the last lines, when the program ends. */
const FLUSH_TIMEOUT_MS = 1_000;

/** Where events go. A reader that is slow, or gone, does not hold up what is reported. */
export class EventOutput {
  #log: Pick<LogFile, "write">;
  #isJson: boolean;
  #waiting = 0;
  #printed: Promise<void> = Promise.resolve();
  #closed = new AbortController();

  constructor(log: Pick<LogFile, "write">, isJson: boolean) {
    this.#log = log;
    this.#isJson = isJson;
  }

  /** Aborted when the terminal or the reader of stdout is gone. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Reports an event. */
  readonly emit = (event: UpEvent): void => {
    this.#log.write(eventText(event));
    if (this.#waiting >= MAX_WAITING_LINES) return;
    const line = this.#isJson ? eventJson(event) : eventText(event);
    this.#waiting++;
    this.#printed = this.#printed.then(() => print(`${line}\n`)).catch((error) => {
      debug(() => String(error));
      if (isClosed(error.cause)) this.#closed.abort(new Error("stdout is closed"));
    }).finally(() => this.#waiting--);
  };

  /** Waits until all is printed, for at most a second. */
  async flush(): Promise<void> {
    await abortable(this.#printed, AbortSignal.timeout(FLUSH_TIMEOUT_MS)).catch(() => {}); // it stays in the log
  }
}

/** Tells whether stdout is closed. A full disk is no reason to stop. */
function isClosed(error: unknown): boolean {
  return error instanceof Deno.errors.BrokenPipe || (error as { code?: string })?.code === "EIO" ||
    /os error 5\b/.test(String(error));
}
