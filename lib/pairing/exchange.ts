/** The joiner's side of a pairing: asks the inviter's listener, each time on a new stream. */

import type { Settings } from "../repository/settings.ts";
import type { AnnexLine } from "./annex_line.ts";
import type { Invitation } from "./invitation.ts";
import type { Linked, Welcome } from "./messages.ts";
import { Failure } from "../console/failure.ts";

/** The invitation is unknown, used by another, expired or withdrawn. The inviter does not say which. */
export class InvitationRefused extends Failure {
  override readonly name = "InvitationRefused";

  constructor() {
    super("the invitation is not valid, or no longer", {
      hint: "it works once and for a limited time, so ask for a new one",
    });
  }
}

/** The inviter cannot be reached. */
export class InviterAway extends Failure {
  override readonly name = "InviterAway";
}

/** The program at the inviter's side takes no invitations. */
export class InviterUnable extends Failure {
  override readonly name = "InviterUnable";
}

/** The inviter cannot do its part at present. */
export class InviterFailed extends Failure {
  override readonly name = "InviterFailed";
}

/** What the exchange needs. */
export interface ExchangeOptions {
  /** Key of {@linkcode joinKey}, by which the inviter knows the joiner again. */
  readonly secretKey: Uint8Array;
  /** The joiner's settings, after {@linkcode withRelayToken}. */
  readonly settings: Settings;
}

/**
 * The joiner's side. The steps come in this order; each may be repeated, also by another process with the same key.
 * Each dials if there is no connection, and dials again if that is lost.
 *
 * - join: the invitation is this joiner's from then on. Its line lets the joiner in at the inviter.
 * - link: when this repository is served, since git-annex at the inviter connects to it.
 * - done: when this repository has made the inviter its remote.
 * - cancel: in place of the rest, if the joiner gives up. The inviter removes the remote.
 *
 * @throws {InvitationRefused}, {InviterAway}, {InviterUnable}, {InviterFailed}, or the signal's reason.
 */
export interface Exchange extends AsyncDisposable {
  join(name: string, signal: AbortSignal): Promise<Welcome>;
  link(line: AnnexLine, uuid: string, signal: AbortSignal): Promise<Linked>;
  done(signal: AbortSignal): Promise<void>;
  cancel(reason: string, signal: AbortSignal): Promise<void>;
}

/** Returns the joiner's side for an invitation. Nothing is sent yet. */
export function openExchange(_invitation: Invitation, _options: ExchangeOptions): Exchange {
  throw new Failure("not built yet");
}
