/** `git-annex-p2p-iroh ADDRESS`: connect to a peer, relay stdin to it and it to stdout. */

import { abortable } from "../abortable.ts";
import { reach } from "../dial.ts";
import { type Duplex, StreamError } from "../duplex.ts";
import { Failure, systemReason } from "../failure.ts";
import { readIdentity } from "../identity.ts";
import type { Connection } from "../iroh.ts";
import { findRepository, readSettings } from "../repository.ts";
import type { Settings } from "../settings.ts";
import { Signals } from "../signals.ts";
import { splice, type SpliceEnd } from "../splice.ts";
import { debug } from "../stderr.ts";
import { Stdio } from "../stdio.ts";
import { decodeTicket, samePublicKey, type Ticket } from "../ticket.ts";
import { begin, OWN_ALPN, StreamKind } from "../wire/own.ts";
import { CloseCode, PLAIN_ALPN, sendHello } from "../wire/plain.ts";
import { rememberPlainAlone, speaksPlainAlone } from "../wire/plain_peers.ts";
import { Session } from "../wire/session.ts";

/**
 * A lane takes the time in which iroh moves 1 MiB or so, by docs/benchmarks.md. To begin at a quarter
 * of that costs what ends before a lane pays at most 100 ms, and saves all that goes on as much.
 */
const LANE_AFTER_BYTES = 256 * 1024;

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
  const wires = await wiresFor(ticket, settings);
  const { connection } = await reach(ticket, settings, wires, signals.signal);
  if (wires.length > 1 && connection.alpn === PLAIN_ALPN) {
    await rememberPlainAlone(ticket.publicKey);
  }
  using over = new DisposableStack();
  try {
    const stdio = new Stdio();
    const opening = open(connection, settings, over, signals.signal, () => stdio.expectMuch());
    const stream = await abortable(opening, signals.signal);
    const end = await splice(stdio, stream, signals.signal);
    signals.signal.throwIfAborted();
    throwIfFailed(end);
    await connection.closeAndSend(CloseCode.DONE, "");
    return 0;
  } catch (error) {
    const isLost = connection.alpn === OWN_ALPN && error instanceof StreamError &&
      error.kind === "lost";
    if (isLost) await connection.closeAndSend(CloseCode.LANE_LOST, "the lane is lost");
    else await connection.closeAndSend(CloseCode.STOPPED, "stopped");
    throw error instanceof StreamError ? peerFailure(error) : error;
  }
  // The endpoint is left to the end of the process: closing it takes a second that a caller of
  // git-annex would wait for, and everything has been sent by now.
}

/** The protocols to try, the preferred one first. */
async function wiresFor(ticket: Ticket, settings: Settings): Promise<string[]> {
  const plainAlone = !settings.lane || await speaksPlainAlone(ticket.publicKey);
  return plainAlone ? [PLAIN_ALPN] : [OWN_ALPN, PLAIN_ALPN];
}

/**
 * The stream for git-annex's bytes.
 *
 * @param over Is to be disposed of with it.
 * @param onLane Called when it goes on by a lane.
 */
async function open(
  connection: Connection,
  settings: Settings,
  over: DisposableStack,
  signal: AbortSignal,
  onLane: () => void,
): Promise<Duplex> {
  const stream = await connection.open();
  if (connection.alpn === PLAIN_ALPN) {
    await sendHello(stream);
    return stream;
  }
  await begin(stream, StreamKind.SESSION, 0);
  let offered = false;
  const session: Session = new Session(stream, connection.over, () => {
    if (offered || session.sent + session.received < LANE_AFTER_BYTES) return;
    offered = true;
    startLane(connection, session, settings, signal).then((link) => {
      if (!link) return;
      over.use(link);
      onLane();
    }).catch((error) => debug(() => `no lane: ${error}`)); // the session stays where it is
  });
  return session;
}

async function startLane(
  connection: Connection,
  session: Session,
  settings: Settings,
  signal: AbortSignal,
): Promise<Disposable | undefined> {
  const [{ offerLane }, { endsOf }] = await Promise.all([
    import("../lane/start.ts"),
    import("../lane/ends.ts"),
  ]);
  const stream = await connection.open();
  await begin(stream, StreamKind.LANE, 0);
  return await offerLane(stream, session, endsOf(connection, settings.bind), signal);
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
