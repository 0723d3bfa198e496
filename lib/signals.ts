/** SIGTERM, SIGINT and SIGHUP as an AbortSignal. */

import { Failure } from "./failure.ts";
import { constants } from "node:os";

/** The process was told to end. Its exit status is the one shells expect, 128 + the signal's number. */
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

/** While this is not disposed of, the first signal aborts `signal`, and a second ends the process. */
export class Signals implements Disposable {
  #controller = new AbortController();
  #handlers = new Map<Deno.Signal, () => void>();

  constructor() {
    for (const name of SIGNALS) {
      const handler = () => {
        const reason = new Signalled(name);
        if (this.signal.aborted) Deno.exit(reason.exitStatus);
        this.#controller.abort(reason);
      };
      this.#handlers.set(name, handler);
      Deno.addSignalListener(name, handler);
    }
  }

  /** Aborted, with {@linkcode Signalled} as its reason, when the process is told to end. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    for (const [name, handler] of this.#handlers) Deno.removeSignalListener(name, handler);
  }
}
