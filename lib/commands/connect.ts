/** `git-annex-p2p-iroh ADDRESS`: connect to a peer, relay stdin to it and it to stdout. */

import { abortable } from "../abortable.ts";
import { reach } from "../dial.ts";
import { StreamError } from "../duplex.ts";
import { Failure, systemReason } from "../failure.ts";
import { readIdentity } from "../identity.ts";
import { findRepository, readSettings } from "../repository.ts";
import { Signals } from "../signals.ts";
import { splice, type SpliceEnd } from "../splice.ts";
import { debug } from "../stderr.ts";
import { stdio } from "../stdio.ts";
import { decodeTicket, samePublicKey, type Ticket } from "../ticket.ts";
import { CloseCode, PLAIN_ALPN, sendHello } from "../wire/plain.ts";

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
  const ticket = decodeTicket(address);
  const [settings, own] = await Promise.all([
    readSettings(),
    isOwn(ticket),
    import("../iroh.ts"), // so that it is there by the time it is needed
  ]);
  if (own) {
    throw new ConnectionFailure("that is this repository's own address", {
      hint: "a repository connects to others; give it the address of a peer",
    });
  }
  const { connection } = await reach(ticket, settings, [PLAIN_ALPN], signals.signal);
  try {
    const stream = await abortable(connection.open(), signals.signal);
    await abortable(sendHello(stream), signals.signal);
    const end = await splice(stdio(), stream, signals.signal);
    signals.signal.throwIfAborted();
    throwIfFailed(end);
    await connection.closeAndSend(CloseCode.DONE, "");
    return 0;
  } catch (error) {
    await connection.closeAndSend(CloseCode.STOPPED, "stopped");
    throw error instanceof StreamError ? peerFailure(error) : error;
  }
  // The endpoint is left to the end of the process: closing it takes a second that a caller of
  // git-annex would wait for, and everything has been sent by now.
}

async function isOwn(ticket: Ticket): Promise<boolean> {
  try {
    const identity = await readIdentity(await findRepository());
    return identity !== undefined && samePublicKey(identity, ticket);
  } catch (error) {
    // There is no repository while one is being cloned, and a damaged identity is the listener's
    // concern: neither keeps anybody from connecting.
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
