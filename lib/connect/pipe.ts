/** The work of `connect`: pipes stdin to a peer, and the peer's bytes to stdout. */

import { abortable } from "../async/abort.ts";
import { StreamError } from "../streams/duplex.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { type ControlLocator, locateControlSocket } from "../control/locator.ts";
import type { WorkingContext } from "../repository/repository.ts";
import { END_TIMEOUT_MS, Signals } from "../console/signals.ts";
import { splice, type SpliceResult } from "../streams/splice.ts";
import { debug } from "../console/stderr.ts";
import { Stdio } from "../platform/stdio.ts";
import type { OutboundSession } from "./outbound.ts";

/** The connection ended early. */
export class ConnectionFailure extends Failure {
  override readonly name = "ConnectionFailure";
}

/** Matches what may be an address. The listener, or the dialer of this process, decodes it. */
const ADDRESS_LIKE = /^endpoint[a-z2-7]{1,4096}$/;

/**
 * Connects, and pipes until both directions have ended or the peer has closed.
 *
 * @param context Settings and repository.
 * @returns 0 if the peer closed in an orderly way.
 * @throws {Failure} if the peer cannot be reached, or is lost in mid-stream.
 */
export async function pipeStdio(
  address: string,
  context: Promise<WorkingContext>,
): Promise<number> {
  using signals = new Signals(END_TIMEOUT_MS);
  const { signal } = signals;
  const stdio = new Stdio(), onLane = () => stdio.expectMuch();
  const found = await abortable(context, signal);
  const locator = ADDRESS_LIKE.test(address) ? locatorFor(found) : undefined;
  using outbound = (locator && await loadViaListener(address, locator, onLane, signal)) ??
    await loadStandalone(address, found, onLane, signal);
  try {
    const result = await splice(stdio, outbound.stream, signal);
    signal.throwIfAborted();
    throwIfFailed(result);
    await outbound.finish();
    return 0;
  } catch (error) {
    await outbound.giveUp(error);
    throw error instanceof StreamError ? peerFailure(error) : error;
  }
}

/** Returns the locator of the listener, if there is one and the settings permit its use. */
function locatorFor({ settings, repository }: WorkingContext): ControlLocator | undefined {
  // With `lane = false` the peer speaks dumbpipe's protocol, which cannot keep a connection.
  if (!repository || !settings.warm || !settings.lane) return undefined;
  return locateControlSocket(repository, settings);
}

/** Loads the modules that only a process with a listener needs, and connects. */
async function loadViaListener(
  address: string,
  locator: ControlLocator,
  onLane: () => void,
  signal: AbortSignal,
): Promise<OutboundSession | undefined> {
  const { openViaListener } = await import("./via_listener.ts");
  return await openViaListener(address, locator, onLane, signal);
}

/** Loads the modules that only a standalone process needs, and connects. */
async function loadStandalone(
  address: string,
  { settings, repository }: WorkingContext,
  onLane: () => void,
  signal: AbortSignal,
): Promise<OutboundSession> {
  // The addon loads meanwhile. openStandalone() awaits it, and throws if it cannot be loaded.
  import("../iroh/load.ts").then(({ loadIroh }) => loadIroh()).catch(() => {});
  const [{ openStandalone }, { decodeTicket }] = await Promise.all([
    import("./standalone.ts"),
    import("../repository/ticket.ts"),
  ]);
  try {
    return await openStandalone(decodeTicket(address), settings, repository, onLane, signal);
  } catch (error) {
    throw error instanceof StreamError ? peerFailure(error) : error;
  }
}

/** Throws if a direction ended early in a way that is an error. */
function throwIfFailed(result: SpliceResult): void {
  // If the peer's bytes have all come, the peer may stop reading ours.
  const isComplete = result.bToA.error === undefined;
  const errors = [result.bToA.error, result.aToB.error].filter((error) => error !== undefined);
  for (const error of errors) debug(() => `a direction ended early: ${error}`);
  for (const error of errors) {
    // The reader of our stdout has closed it, and may do so.
    if (error instanceof Deno.errors.BrokenPipe) continue;
    if (!(error instanceof StreamError)) {
      throw new ConnectionFailure(`cannot pass bytes on, ${systemReason(error)}`, { cause: error });
    }
    // dumbpipe, too, closes the connection without the end of the stream.
    const isGivenUp = error.kind === "reset" || error.kind === "forgotten";
    if (error.kind !== "closed" && !(isComplete && isGivenUp)) throw error;
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
    case "forgotten":
    case "closed":
      return new ConnectionFailure(error.message, {
        hint: "try again, and see whether git-annex there says why",
        cause: error,
      });
    case "lost":
      return new ConnectionFailure(`the peer is lost in mid-stream, ${error.message}`, {
        hint: "try again when it is back, and git-annex goes on where it stopped",
        cause: error,
      });
  }
}
