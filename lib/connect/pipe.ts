/** The work of `connect`: pipes stdin to a peer, and the peer's bytes to stdout. */

import { StreamError } from "../streams/duplex.ts";
import { systemReason } from "../console/failure.ts";
import { END_TIMEOUT_MS, Signals } from "../console/signals.ts";
import { splice, type SpliceResult } from "../streams/splice.ts";
import { debug } from "../console/stderr.ts";
import { Stdio } from "../platform/stdio.ts";
import type { ControlLocator } from "../control/locator.ts";
import type { WorkingContext } from "../repository/repository.ts";
import { ConnectionFailure, peerFailure } from "./failures.ts";
import { GitAnswer } from "./git_answer.ts";
import { openOutbound } from "./open.ts";

/**
 * Connects, and pipes until both directions have ended or the peer has closed.
 *
 * @param certain and
 * @param context As {@linkcode openOutbound} takes them.
 * @returns 0 if the peer closed in an orderly way.
 * @throws {Failure} if the peer cannot be reached, or is lost in mid-stream.
 */
export async function pipeStdio(
  address: string,
  certain: ControlLocator | undefined,
  context: () => Promise<WorkingContext>,
): Promise<number> {
  using signals = new Signals(END_TIMEOUT_MS);
  const { signal } = signals;
  const stdio = new Stdio(new GitAnswer());
  const wanted = {
    address,
    onLane: () => stdio.expectMuch(),
    isCallerThere: () => stdio.isOpen(),
    signal,
  };
  using outbound = await openOutbound(wanted, certain, context);
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
