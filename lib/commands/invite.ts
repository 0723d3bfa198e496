/** `git-annex-p2p-iroh invite`: makes an invitation for one other repository, and waits for it to join. */

import { abortable } from "../async/abort.ts";
import type { InviteOptions } from "../console/arguments.ts";
import { Failure } from "../console/failure.ts";
import { localTime } from "../console/local_time.ts";
import { PROGRAM } from "../console/program.ts";
import { END_TIMEOUT_MS, Signals } from "../console/signals.ts";
import { say } from "../console/stderr.ts";
import { print } from "../console/stdout.ts";
import {
  addInvitation,
  type HeldInvitation,
  type InvitationEvent,
  type ListedInvitation,
  listInvitations,
  withdrawInvitations,
} from "../control/invitations.ts";
import { type ControlSocket, locateControlSocket } from "../control/locator.ts";
import { annexUuid } from "../pairing/annex_place.ts";
import {
  encodeInvitation,
  hashOfSecret,
  inviterRelay,
  newInvitationSecret,
} from "../pairing/invitation.ts";
import { chosenName } from "../pairing/remote_name.ts";
import { DEFAULT_VALIDITY, parseValidity, validityText } from "../pairing/validity.ts";
import { ensureEnabled } from "../repository/enable.ts";
import {
  findRepository,
  readSettings,
  type Repository,
  topFolder,
} from "../repository/repository.ts";
import { decodeTicket } from "../repository/ticket.ts";
import { ensureServed } from "../supervisor/background.ts";
import { upLogPath } from "../supervisor/entry.ts";

/** The invitation is over, and no repository has joined. */
export class NoJoiner extends Failure {
  override readonly name = "NoJoiner";
}

/** The listener of this repository cannot keep invitations. */
export class NoListener extends Failure {
  override readonly name = "NoListener";
}

/** Makes an invitation. @returns 0 when a repository has joined, or at once if it is detached. */
export async function invite(options: InviteOptions): Promise<number> {
  if (Deno.build.os === "windows") {
    throw new Failure("serving needs unix sockets, which Windows lacks", {
      hint: "invite from git-annex in WSL, or use an invitation with join there",
    });
  }
  const { isQr, isDetached } = options;
  const name = options.name === undefined ? undefined : chosenName(options.name);
  const validMs = parseValidity(options.valid ?? DEFAULT_VALIDITY);
  using signals = new Signals(END_TIMEOUT_MS);
  const { signal } = signals;
  const [repository, settings] = await Promise.all([findRepository(), readSettings()]);
  const folder = await topFolder(repository);
  await annexUuid({ repository, folder }, signal);
  const { publicKey, relays } = decodeTicket(await ensureEnabled(repository, folder, signal));
  const up = await ensureServed(repository, folder, signal);
  if (up) {
    await print(`up        process ${up.pid} serves it; its log is ${upLogPath(repository)}\n`);
  }
  const secret = newInvitationSecret(), hash = hashOfSecret(secret);
  const socket = requireListener(repository);
  using held = await addInvitation(socket, { hash, name, validMs, isDetached }, signal);
  const code = encodeInvitation({ publicKey, secret, relay: inviterRelay(settings.relay, relays) });
  await print(
    `Send this invitation in a private way. It is good for ${
      validityText(validMs)
    }, and works once:\n\n` +
      `${code}\n\n`,
  );
  if (isQr) await printQrCode(code);
  await print(`The other side runs: ${PROGRAM} join FOLDER\n`);
  if (isDetached) {
    const { id } = held.invitation;
    await print(`To withdraw it, run: ${PROGRAM} invite --withdraw ${id}\n`);
    return 0;
  }
  await print("Waiting. Ctrl-C withdraws it.\n");
  try {
    return await untilJoined(held, signal);
  } catch (error) {
    if (signal.aborted) say("the invitation is withdrawn");
    throw error;
  }
}

/** Prints an invitation as a QR code, unless the terminal would break its lines. */
async function printQrCode(invitation: string): Promise<void> {
  const { qrCode, qrColumns } = await import("../pairing/qr_code.ts");
  const code = qrCode(invitation), needed = qrColumns(code);
  const columns = Deno.stdout.isTerminal() ? Deno.consoleSize().columns : 0;
  if (columns === 0 || columns >= needed) return await print(`${code}\n`); // 0: the width is not known
  say(`the QR code needs ${needed} columns, and this terminal has ${columns}; use the text above`);
}

/** Says what happens to an invitation. @throws {NoJoiner} @throws The signal's reason. */
async function untilJoined({ events }: HeldInvitation, signal: AbortSignal): Promise<number> {
  const iterator = events[Symbol.asyncIterator]();
  let hasBegun = false;
  try {
    for (;;) {
      const { value: event, done } = await abortable(iterator.next(), signal);
      if (done) throw new NoJoiner("the invitation is over");
      if (await tell(event)) return 0;
      hasBegun = true;
    }
  } catch (error) {
    if (hasBegun) say(KEEPS_TOKEN);
    throw error;
  }
}

/** git-annex has no command that removes a token. */
const KEEPS_TOKEN =
  "the joiner keeps the token that it got; if it is a stranger, docs/security.md says how to shut it out";

/** How an invitation ends that no repository has joined. */
const ENDS = {
  expired: "its time is up",
  withdrawn: "it was withdrawn",
  stopped: "this repository is no longer served",
};

/** Says what has happened. @returns Whether a repository has joined. @throws {NoJoiner} */
async function tell(event: InvitationEvent): Promise<boolean> {
  switch (event.kind) {
    case "joining":
      await print(`joining   ${event.name}\n`);
      return false;
    case "joined":
      await print(
        `joined    ${
          event.wasLinked ? "it was linked before, as" : "it is"
        } the remote ${event.remote}\n` +
          `next      git annex sync --content ${event.remote}\n`,
      );
      return true;
    case "failed":
      say(`not joined yet, ${event.message}`);
      return false;
    case "cancelled":
      throw new NoJoiner(`the invitation is over, the joiner has given up: ${event.message}`, {
        hint: `for another one, run ${PROGRAM} invite`,
      });
    case "expired":
    case "withdrawn":
    case "stopped":
      throw new NoJoiner(
        `the invitation is over, ${ENDS[event.kind]}` +
          (event.isUndone ? "; the joiner's remote is removed again" : ""),
        event.isUndone ? {} : { hint: `for another one, run ${PROGRAM} invite` },
      );
  }
}

/** Prints the invitations that are valid. @returns 0. */
export async function listValid(): Promise<number> {
  using signals = new Signals(END_TIMEOUT_MS);
  const socket = requireListener(await findRepository());
  const all = await listInvitations(socket, signals.signal);
  const good = all.filter(({ state }) => state !== "joined");
  await print(good.map(invitationLine).join("") || "no invitations\n");
  return 0;
}

function invitationLine(
  { id, name, expires, isDetached, state, remote }: ListedInvitation,
): string {
  const who = remote ?? name;
  const parts = [
    `${id}  ${state}`,
    `until ${localTime(expires)}`,
    ...who === undefined ? [] : [`for ${who}`],
    ...isDetached ? ["detached"] : [],
  ];
  return `${parts.join(", ")}\n`;
}

/** Withdraws an invitation, or all. @returns 0. */
export async function withdraw(id: string): Promise<number> {
  using signals = new Signals(END_TIMEOUT_MS);
  const socket = requireListener(await findRepository());
  const ids = await withdrawInvitations(socket, id === "all" ? "all" : [id], signals.signal);
  await print(ids.length > 0 ? `withdrawn ${ids.join(", ")}\n` : "no invitations\n");
  return 0;
}

function requireListener(repository: Repository): ControlSocket {
  const socket = locateControlSocket(repository);
  if (socket) return socket;
  throw new NoListener("no listener of this repository answers", {
    hint: `run ${PROGRAM} up; if one of an older version runs, restart it`,
  });
}
