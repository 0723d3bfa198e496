/**
 * Lets a dial of git-annex's remotedaemon wait until its peer is there. If the dial failed, remotedaemon would
 * dial again after a pause, which doubles with each failure, up to an hour, and never shrinks.
 *
 * The listener knows when the peer is there. It also limits how many processes wait.
 */

import { delay, LinkedSignal } from "../async/abort.ts";
import { Failure } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { requestPeer } from "../control/client.ts";
import type { ControlSocket } from "../control/locator.ts";
import { ControlUnavailable } from "../control/unavailable.ts";
import type { Away } from "../dial/unreachable.ts";
import { garbageCollector } from "../platform/garbage.ts";
import type { Wanted } from "./outbound.ts";
import { startingDaemon } from "./started_by.ts";

/** Interval between looks whether git-annex still wants the connection. It may want it for days. */
const LOOK_INTERVAL_MS = 1_000;
/** Minimum time until the next dial, so that a peer which comes and goes keeps no processor busy. */
const MIN_WAIT_MS = 1_000;

/** git-annex has closed stdin or stdout, or has ended. */
class NoLongerWanted extends Failure {
  override readonly name = "NoLongerWanted";

  constructor() {
    super("git-annex no longer wants this connection", { quiet: true });
  }
}

/**
 * Waits until the peer is there, if remotedaemon has started this process.
 *
 * @param away The error of the dial, thrown if this process is not to wait, or no longer.
 * @throws {NoLongerWanted} @throws The signal's reason.
 */
export async function awaitReturn(
  away: Away,
  locator: ControlSocket,
  { address, isCallerThere, signal }: Pick<Wanted, "address" | "isCallerThere" | "signal">,
): Promise<void> {
  const daemon = await startingDaemon();
  if (daemon === undefined) throw away;
  const begin = performance.now(), done = new AbortController();
  using until = new LinkedSignal([signal, done.signal]);
  const isWanted = () => isCallerThere() && Deno.ppid === daemon;
  watch(isWanted, until.signal).then(() => done.abort(new NoLongerWanted()), () => {}); // done before
  garbageCollector()?.(); // what the dial has left
  debug(() => "waiting until the peer is there");
  try {
    await requestPeer(locator, address, daemon, until.signal);
    await delay(Math.max(0, begin + MIN_WAIT_MS - performance.now()), until.signal);
    debug(() => "the peer is there");
  } catch (error) {
    if (!(error instanceof ControlUnavailable)) throw error;
    debug(() => `not waiting: ${error.message}`);
    throw away;
  } finally {
    done.abort();
  }
}

/** Resolves when the connection is no longer wanted. @throws The signal's reason. */
async function watch(isWanted: () => boolean, signal: AbortSignal): Promise<void> {
  while (isWanted()) await delay(LOOK_INTERVAL_MS, signal);
}
