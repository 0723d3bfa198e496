/** The process's half of the control socket for `invite`: adds, lists and withdraws invitations. */

import { abortable } from "../async/abort.ts";
import { Failure } from "../console/failure.ts";
import { type Channel, ChannelError, jsonOf, MessageKind } from "./channel.ts";
import { ask, OTHER_TIMEOUTS, type RequestTimeouts, sendRequest } from "./client.ts";
import type { ControlSocket } from "./locator.ts";
import type { InvitationEvent, ListedInvitation, NewInvitation } from "./request.ts";

export type { InvitationEvent, ListedInvitation, NewInvitation };

/** Timeouts for withdrawing: a step of git-annex that is under way has a minute, if it does not end at once. */
export const WITHDRAW_TIMEOUTS: RequestTimeouts = { ...OTHER_TIMEOUTS, answerMs: 70_000 };

/** An invitation that the listener keeps. Disposed of before its last event, it is withdrawn unless detached. */
export interface HeldInvitation extends Disposable {
  readonly invitation: ListedInvitation;
  /**
   * What happens to it, up to its last event; nothing if it is detached. @throws {ListenerGone} if the listener ends.
   */
  readonly events: AsyncIterable<InvitationEvent>;
}

/** The listener has ended, and the invitation with it. */
export class ListenerGone extends Failure {
  override readonly name = "ListenerGone";

  constructor() {
    super("this repository's listener has ended, and the invitation is no longer valid", {
      hint: "see its log, and invite again",
    });
  }
}

/**
 * Has the listener keep an invitation.
 *
 * @throws {ControlUnavailable} if no listener answers. @throws {Failure} if there are too many already.
 */
export async function addInvitation(
  socket: ControlSocket,
  invitation: NewInvitation,
  signal: AbortSignal,
): Promise<HeldInvitation> {
  const request = { want: "invite", ...invitation } as const;
  const { channel, answer } = await sendRequest(socket, request, OTHER_TIMEOUTS, signal);
  return {
    invitation: (await answer).invitation as ListedInvitation,
    events: invitation.isDetached ? noEvents() : eventsOf(channel, signal),
    [Symbol.dispose]: () => channel[Symbol.dispose](),
  };
}

async function* noEvents(): AsyncGenerator<InvitationEvent> {}

async function* eventsOf(
  channel: Channel,
  signal: AbortSignal,
): AsyncGenerator<InvitationEvent> {
  for (;;) {
    const message = await abortable(channel.receive(), signal).catch((error) => {
      signal.throwIfAborted();
      throw error instanceof ChannelError ? error : new ListenerGone();
    });
    if (!message) throw new ListenerGone();
    if (message.kind !== MessageKind.EVENT) continue; // such as KEEPALIVE
    const event = jsonOf(message) as unknown as InvitationEvent;
    yield event;
    if (isLast(event)) return;
  }
}

/** Tells whether no event follows. */
export function isLast({ kind }: InvitationEvent): boolean {
  return kind !== "joining" && kind !== "failed";
}

/** Returns the invitations that the listener keeps. @throws {ControlUnavailable} if no listener answers. */
export async function listInvitations(
  socket: ControlSocket,
  signal: AbortSignal,
): Promise<ListedInvitation[]> {
  const { invitations } = await ask(socket, { want: "invitations" }, OTHER_TIMEOUTS, signal);
  return invitations as ListedInvitation[];
}

/**
 * Withdraws invitations. Where a joiner was not done, its remote is removed.
 *
 * @param ids Short ids, or "all".
 * @returns The ids of those that were withdrawn.
 * @throws {ControlUnavailable} if no listener answers. @throws {Failure} if there is none with such an id.
 */
export async function withdrawInvitations(
  socket: ControlSocket,
  ids: readonly string[] | "all",
  signal: AbortSignal,
): Promise<string[]> {
  const answer = await ask(socket, { want: "withdraw", ids }, WITHDRAW_TIMEOUTS, signal);
  return answer.ids as string[];
}
