/** The errors of a dial that does not reach the peer. */

import { Failure, type FailureOptions } from "../console/failure.ts";
import { localTime } from "../console/local_time.ts";

/** What an {@linkcode Unreachable} carries beside its message. */
export interface UnreachableOptions extends FailureOptions {
  /** False if the peer may be there all the same. */
  readonly meansAbsence?: boolean;
}

/** A peer cannot be reached. */
export class Unreachable extends Failure {
  override readonly name: string = "Unreachable";
  /** True if the peer is probably away: it has not answered, although this host was online. */
  readonly meansAbsence: boolean;

  constructor(message: string, options: UnreachableOptions = {}) {
    super(message, options);
    this.meansAbsence = options.meansAbsence ?? true;
  }
}

/** When a peer went away, as far as this repository knows. */
export interface Absence {
  /** Time of the first dial that has failed. */
  readonly since: Date;
  /** Undefined if it was never seen. */
  readonly lastSeen: Date | undefined;
}

/** A peer is believed away: dials have failed, and nothing has been heard of it since. */
export class Away extends Unreachable {
  override readonly name = "Away";
  readonly absence: Absence;

  constructor(message: string, absence: Absence, options?: FailureOptions) {
    super(message, options);
    this.absence = absence;
  }

  /** Returns the error for a peer that a dial has not reached. @param error The dial's. */
  static from(error: Unreachable, absence: Absence): Away {
    const seen = absence.lastSeen ? `last seen ${localTime(absence.lastSeen)}` : "never seen";
    const rest = error.message.replace(/^(?:cannot reach the peer|the peer is away, [^;]*)/, "");
    return new Away(`the peer is away, ${seen}${rest}`, absence, {
      ...error.hint === undefined ? {} : { hint: error.hint },
      cause: error,
    });
  }
}
