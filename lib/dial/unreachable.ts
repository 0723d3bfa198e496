/** The errors of a dial that does not reach the peer. */

import { Failure, type FailureOptions } from "../console/failure.ts";
import { localTime } from "../console/local_time.ts";

/** With what the message of a dial begins. */
const CANNOT_REACH = /^cannot reach the peer/;

/** What a failed dial tells of the peer. */
export type Verdict =
  /** It has not answered, although this host was online: it is probably away. */
  | "away"
  /** Nothing: this host was not online for long enough, or no route is known. */
  | "unclear"
  /** It is there, but accepts no connection now. */
  | "refused";

/** What an {@linkcode Unreachable} carries beside its message. */
export interface UnreachableOptions extends FailureOptions {
  /** By default, the peer is away. */
  readonly verdict?: Verdict;
}

/** A peer cannot be reached. */
export class Unreachable extends Failure {
  override readonly name: string = "Unreachable";
  readonly verdict: Verdict;

  constructor(message: string, options: UnreachableOptions = {}) {
    super(message, options);
    this.verdict = options.verdict ?? "away";
  }
}

/** When a peer went away, as far as this repository knows. */
export interface Absence {
  /** Time of the first dial that has failed. */
  readonly since: Date;
  /** Undefined if it was never seen. */
  readonly lastSeen: Date | undefined;
}

/** A peer has not answered. It may come back, so a process may wait for it. */
export class Away extends Unreachable {
  override readonly name = "Away";
  readonly absence: Absence;

  constructor(message: string, absence: Absence, options?: UnreachableOptions) {
    super(message, options);
    this.absence = absence;
  }

  /** Returns the error for a peer that is believed away. @param error The dial's. */
  static from(error: Unreachable, absence: Absence): Away {
    const { lastSeen } = absence;
    const message = lastSeen
      ? error.message.replace(CANNOT_REACH, `the peer is away, last seen ${localTime(lastSeen)}`)
      : error.message; // it may never have been there
    return new Away(message, absence, {
      ...error.hint === undefined ? {} : { hint: error.hint },
      cause: error,
    });
  }
}
