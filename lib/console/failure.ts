/** Errors that the user can act on. main.ts turns them into one line and an exit status. */

/** What a {@linkcode Failure} carries beside its message. */
export interface FailureOptions extends ErrorOptions {
  /** What the user can do: lower case, no full stop. */
  hint?: string;
  /** Exit status of the process, 1 by default. */
  exitStatus?: number;
  /** True if the user caused it and knows: only the debug log has it. */
  quiet?: boolean;
}

/**
 * An error whose cause is understood: the message says what happened, the hint what to do.
 * Modules derive their own classes, so that callers can tell them apart.
 */
export class Failure extends Error {
  override readonly name: string = "Failure";
  /** What the user can do. */
  readonly hint: string | undefined;
  /** Exit status of the process if no caller handles the failure. */
  readonly exitStatus: number;
  /** True if only the debug log has it. */
  readonly quiet: boolean;

  /** @param message What happened: lower case, no full stop, never a secret. */
  constructor(message: string, options: FailureOptions = {}) {
    super(message, options);
    this.hint = options.hint;
    this.exitStatus = options.exitStatus ?? 1;
    this.quiet = options.quiet ?? false;
  }
}

/** The command line is not valid. */
export class UsageError extends Failure {
  override readonly name = "UsageError";

  constructor(message: string, hint = "see git-annex-p2p-iroh --help") {
    super(message, { hint, exitStatus: 2 });
  }
}

/**
 * Returns the operating system's words for an error, without what Deno adds, for use in a message.
 * "No space left on device (os error 28): write '…'" becomes "no space left on device".
 */
export function systemReason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const reason = text.split("\n", 1)[0]!.replace(/ \(os error \d+\).*$/, "");
  return reason.charAt(0).toLowerCase() + reason.slice(1);
}

/**
 * Returns why a wait failed, for use in a message.
 *
 * @param timeoutReason What to say if `AbortSignal.timeout` ended the wait.
 */
export function reasonFor(error: unknown, timeoutReason: string): string {
  if (error instanceof DOMException && error.name === "TimeoutError") return timeoutReason;
  return error instanceof Failure ? error.message : systemReason(error);
}
