/** `git-annex-p2p-iroh ADDRESS`: connect to a peer, relay stdin to it and it to stdout. */

import { StreamError } from "../duplex.ts";
import { Failure, systemReason } from "../failure.ts";
import type { Line } from "../line/line.ts";
import { openWarm } from "../line/warm.ts";
import { loadIroh } from "../load_iroh.ts";
import { findRepository, readSettings, type Repository } from "../repository.ts";
import type { Settings } from "../settings.ts";
import { Signals } from "../signals.ts";
import { splice, type SpliceEnd } from "../splice.ts";
import { debug } from "../stderr.ts";
import { Stdio } from "../stdio.ts";
import { decodeTicket, samePublicKey, type Ticket } from "../ticket.ts";

/** The connection did not end as it should. */
export class ConnectionFailure extends Failure {
  override readonly name = "ConnectionFailure";
}

/**
 * Connects, and relays until both directions have ended or the peer has closed.
 *
 * @returns 0 when the peer closed in an orderly way.
 * @throws {Failure} if it cannot be reached, or is lost in mid-stream.
 */
export async function connect(address: string): Promise<number> {
  using signals = new Signals();
  const { signal } = signals;
  const ticket = decodeTicket(address);
  const [settings, repository] = await Promise.all([readSettings(), repositoryHere()]);
  const stdio = new Stdio(), onLane = () => stdio.expectMuch();
  const warm = repository && await openWarm(address, repository, settings, onLane, signal);
  using line = warm ?? await openCold(ticket, settings, repository, onLane, signal);
  try {
    const end = await splice(stdio, line.stream, signal);
    signal.throwIfAborted();
    throwIfFailed(end);
    await line.finish();
    return 0;
  } catch (error) {
    await line.giveUp(error);
    throw error instanceof StreamError ? peerFailure(error) : error;
  }
}

/** Loads what is needed for that alone. */
async function openCold(
  ticket: Ticket,
  settings: Settings,
  repository: Repository | undefined,
  onLane: () => void,
  signal: AbortSignal,
): Promise<Line> {
  const loading = import("../line/cold.ts");
  loadIroh().catch(() => {}); // so that it is there by the time it is needed, which tells
  if (repository && await isOwn(ticket, repository)) {
    const { OwnAddress } = await import("../dial.ts");
    throw new OwnAddress();
  }
  const { openCold } = await loading;
  try {
    return await openCold(ticket, settings, onLane, signal);
  } catch (error) {
    throw error instanceof StreamError ? peerFailure(error) : error;
  }
}

/** There is none while one is being cloned. */
async function repositoryHere(): Promise<Repository | undefined> {
  try {
    return await findRepository();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    debug(() => `no repository: ${error.message}`);
    return undefined;
  }
}

async function isOwn(ticket: Ticket, repository: Repository): Promise<boolean> {
  try {
    const { readIdentity } = await import("../identity.ts");
    const identity = await readIdentity(repository);
    return identity !== undefined && samePublicKey(identity, ticket);
  } catch (error) {
    // A damaged identity is the listener's concern, and keeps nobody from connecting.
    if (error instanceof Failure) debug(() => `own address not known: ${error.message}`);
    else throw error;
    return false;
  }
}

/** Throws if the relaying ended otherwise than it should. */
function throwIfFailed(end: SpliceEnd): void {
  // Once all that the peer had to say is here, it needs not take all that we would say.
  const whole = end.back.error === undefined;
  const errors = [end.back.error, end.forth.error].filter((error) => error !== undefined);
  for (const error of errors) debug(() => `a direction ended early: ${error}`);
  for (const error of errors) {
    // Whoever called has closed our stdout: it wants no more, which is its right.
    if (error instanceof Deno.errors.BrokenPipe) continue;
    if (!(error instanceof StreamError)) {
      throw new ConnectionFailure(`cannot relay, ${systemReason(error)}`, { cause: error });
    }
    // "closed" without the end of the stream before is how dumbpipe ends, too.
    if (error.kind !== "closed" && !(whole && error.kind === "reset")) throw error;
  }
}

function peerFailure(error: StreamError): ConnectionFailure {
  switch (error.kind) {
    case "refused":
      return new ConnectionFailure(`the peer ended the connection: ${error.message}`, {
        hint: "is git annex remotedaemon running there?",
        cause: error,
      });
    case "reset":
    case "closed":
      return new ConnectionFailure(error.message, {
        hint: "git-annex there may say why; try again",
        cause: error,
      });
    case "lost":
      return new ConnectionFailure(`the peer is lost in mid-stream, ${error.message}`, {
        hint: "try again when it is back; git-annex goes on where it stopped",
        cause: error,
      });
  }
}
