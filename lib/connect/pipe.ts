/** What `connect` does, once it is known where it runs: pipes stdin to a peer and it to stdout. */

import { StreamError } from "../streams/duplex.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { type ControlLocator, locateControlSocket } from "../control/locator.ts";
import type { WorkingContext } from "../repository/repository.ts";
import { runtimeFolders } from "../platform/runtime_folder.ts";
import { Signals } from "../console/signals.ts";
import { splice, type SpliceResult } from "../streams/splice.ts";
import { debug } from "../console/stderr.ts";
import { Stdio } from "../platform/stdio.ts";
import type { OutboundSession } from "./outbound.ts";
import { openViaListener } from "./via_listener.ts";

/** The connection did not end as it should. */
export class ConnectionFailure extends Failure {
  override readonly name = "ConnectionFailure";
}

/** What an address looks like; whether it is one is for whoever dials. */
const ADDRESS = /^endpoint[a-z2-7]{1,4096}$/;

/**
 * Connects, and pipes until both directions have ended or the peer has closed.
 *
 * @param context Where this process runs.
 * @returns 0 when the peer closed in an orderly way.
 * @throws {Failure} if it cannot be reached, or is lost in mid-stream.
 */
export async function pipeStdio(
  address: string,
  context: Promise<WorkingContext>,
): Promise<number> {
  using signals = new Signals();
  const { signal } = signals;
  const stdio = new Stdio(), onLane = () => stdio.expectMuch();
  const folders = runtimeFolders();
  const found = await context; // git has been running meanwhile
  const locator = ADDRESS.test(address) ? locatorFor(found, folders) : undefined;
  using outbound = (locator && await openViaListener(address, locator, onLane, signal)) ??
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

/** The listener to ask, if it may be asked. */
function locatorFor(
  { settings, repository }: WorkingContext,
  folders: readonly string[],
): ControlLocator | undefined {
  // One that has the lane off speaks dumbpipe's protocol, on which nothing can be kept.
  if (!repository || !settings.warm || !settings.lane) return undefined;
  return locateControlSocket(repository, settings, folders);
}

/** Loads what is needed for that alone. */
async function loadStandalone(
  address: string,
  { settings, repository }: WorkingContext,
  onLane: () => void,
  signal: AbortSignal,
): Promise<OutboundSession> {
  // So that the addon is there by the time it is needed, which tells what went wrong.
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

/** Throws if the piping ended otherwise than it should. */
function throwIfFailed(result: SpliceResult): void {
  // Once all that the peer had to say is here, it needs not take all that we would say.
  const whole = result.bToA.error === undefined;
  const errors = [result.bToA.error, result.aToB.error].filter((error) => error !== undefined);
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
