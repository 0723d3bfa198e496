/** The process's half of the control socket for `invite`: adds, lists and withdraws invitations. */

import { Failure } from "../console/failure.ts";
import type { ControlSocket } from "./locator.ts";

/** An invitation for the listener to keep. It never learns the secret. */
export interface NewInvitation {
  /** SHA-256 of the secret, in hex (pairing/invitation.ts). */
  readonly hash: string;
  /** What the joiner's repository is to be called here; undefined for what the joiner says. */
  readonly name: string | undefined;
  /** How long it is valid. */
  readonly validMs: number;
  /** Whether it stays valid when the process has ended, and when the listener is started again. */
  readonly isDetached: boolean;
}

/** What is known of an invitation. */
export interface ListedInvitation {
  /** Short id for people: the first hexadecimal digits of the hash. */
  readonly id: string;
  readonly name: string | undefined;
  /** When it expires: an ISO 8601 date. */
  readonly expires: string;
  readonly isDetached: boolean;
  /** `open`: not used yet; `joining`: a joiner has used it and is not done; `joined`: it is over. */
  readonly state: "open" | "joining" | "joined";
  /** Name of the joiner's remote, once it has been chosen. */
  readonly remote: string | undefined;
}

/** What happens to an invitation. */
export type InvitationEvent =
  /** A joiner has used it. @param name What the joiner calls itself. */
  | { readonly kind: "joining"; readonly name: string }
  /** The joiner is a remote, and has made this repository one. The last event. */
  | { readonly kind: "joined"; readonly remote: string; readonly wasLinked: boolean }
  /** A step has failed, here or at the joiner, which may try again. @param message Why. */
  | { readonly kind: "failed"; readonly message: string }
  /** It is no longer valid. The last event. @param isUndone Whether a joiner's remote was removed again. */
  | { readonly kind: "expired" | "withdrawn"; readonly isUndone: boolean };

/** An invitation that the listener keeps. Disposed of before its last event, it is withdrawn unless detached. */
export interface HeldInvitation extends Disposable {
  readonly invitation: ListedInvitation;
  /**
   * What happens to it, up to its last event. @throws {ListenerGone} if the listener ends. A detached one has no events.
   */
  readonly events: AsyncIterable<InvitationEvent>;
}

/** The listener has ended, and the invitation with it unless it is detached. */
export class ListenerGone extends Failure {
  override readonly name = "ListenerGone";
}

/**
 * Has the listener keep an invitation.
 *
 * @throws {ControlUnavailable} if no listener answers. @throws {Failure} if there are too many already.
 */
export function addInvitation(
  _socket: ControlSocket,
  _invitation: NewInvitation,
  _signal: AbortSignal,
): Promise<HeldInvitation> {
  return Promise.reject(new Failure("not built yet"));
}

/** Returns the invitations that the listener keeps. @throws {ControlUnavailable} if no listener answers. */
export function listInvitations(
  _socket: ControlSocket,
  _signal: AbortSignal,
): Promise<ListedInvitation[]> {
  return Promise.reject(new Failure("not built yet"));
}

/**
 * Withdraws invitations. Where a joiner was not done, its remote is removed.
 *
 * @param ids Short ids, or "all".
 * @returns The ids of those that were withdrawn.
 * @throws {ControlUnavailable} if no listener answers. @throws {Failure} if there is none with such an id.
 */
export function withdrawInvitations(
  _socket: ControlSocket,
  _ids: readonly string[] | "all",
  _signal: AbortSignal,
): Promise<string[]> {
  return Promise.reject(new Failure("not built yet"));
}
