/** Errors that a person can act on. main.ts turns them into one line and an exit status. */

/** What a {@linkcode Failure} says beyond its message. */
export interface FailureOptions extends ErrorOptions {
  /** What the user can do about it: lower case, no full stop. */
  hint?: string;
  /** Exit status of the process; 1 when not given. */
  exitStatus?: number;
  /** Whoever caused it knows: nothing is said, but in the debug log. */
  quiet?: boolean;
}

/**
 * Something went wrong in a way that is understood: the message says what, the hint what to do.
 * Each module derives its own classes, so that callers can tell them apart.
 */
export class Failure extends Error {
  override readonly name: string = "Failure";
  /** What the user can do about it. */
  readonly hint: string | undefined;
  /** Exit status of the process if nobody handles the failure. */
  readonly exitStatus: number;
  /** Nothing is to be said of it. */
  readonly quiet: boolean;

  /** @param message What happened: lower case, no full stop, never a secret. */
  constructor(message: string, options: FailureOptions = {}) {
    super(message, options);
    this.hint = options.hint;
    this.exitStatus = options.exitStatus ?? 1;
    this.quiet = options.quiet ?? false;
  }
}

/** The command line makes no sense. */
export class UsageError extends Failure {
  override readonly name = "UsageError";

  constructor(message: string, hint = "see git-annex-p2p-iroh --help") {
    super(message, { hint, exitStatus: 2 });
  }
}

/**
 * The operating system's words for an error, without what Deno adds, for use inside a message:
 * "no space left on device" rather than "No space left on device (os error 28): write '…'".
 */
export function systemReason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const reason = text.split("\n", 1)[0]!.replace(/ \(os error \d+\).*$/, "");
  return reason.charAt(0).toLowerCase() + reason.slice(1);
}
