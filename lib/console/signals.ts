/** SIGTERM, SIGINT and SIGHUP as an AbortSignal. */

import { Failure } from "./failure.ts";
import { constants } from "node:os";
import { IGNORED_MASK } from "./ignored_signals.ts";

/** A signal has told the process to end. The exit status is what shells expect: 128 + the signal's number. */
export class Signalled extends Failure {
  override readonly name = "Signalled";

  constructor(readonly signal: Deno.Signal) {
    const number = constants.signals[signal as keyof typeof constants.signals];
    super(`ended by ${signal}`, { exitStatus: 128 + number, quiet: true });
  }
}

const SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT", "SIGBREAK"]
  : ["SIGTERM", "SIGINT", "SIGHUP"];

/** Tells whether this process was started to ignore a signal, as `nohup` does. */
function isIgnored(signal: Deno.Signal): boolean {
  const number = constants.signals[signal as keyof typeof constants.signals];
  return (IGNORED_MASK >> BigInt(number - 1) & 1n) === 1n;
}

/**
 * Timeout for the end of a command after a signal, whatever it waits for. Users expect it within a second. Its
 * last messages to a peer or a listener take half of that at most.
 */
export const END_TIMEOUT_MS = 900;

/** Until it is disposed of, the first signal aborts `signal`, and a second one ends the process. */
export class Signals implements Disposable {
  #controller = new AbortController();
  #handlers = new Map<Deno.Signal, () => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param endTimeoutMs Time after the first signal at which the process ends if it has not ended by itself. */
  constructor(endTimeoutMs: number) {
    // The first signal listener makes Deno take over the other signals, too, even ignored ones.
    for (const name of SIGNALS) {
      const handler = isIgnored(name) ? () => {} : () => {
        const reason = new Signalled(name);
        if (this.signal.aborted) Deno.exit(reason.exitStatus);
        this.#timer = setTimeout(() => Deno.exit(reason.exitStatus), endTimeoutMs);
        this.#controller.abort(reason);
      };
      this.#handlers.set(name, handler);
      Deno.addSignalListener(name, handler);
    }
  }

  /** Is aborted with {@linkcode Signalled} when a signal tells the process to end. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const [name, handler] of this.#handlers) Deno.removeSignalListener(name, handler);
  }
}
