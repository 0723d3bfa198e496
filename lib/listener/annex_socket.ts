/** Connects to git-annex's socket, and waits while its queue is full or this process has too many open files. */

import { delay } from "../async/abort.ts";
import { systemReason } from "../console/failure.ts";
import { isOutOfFiles } from "../platform/socket_errors.ts";
import { nobodyListens, UnixSocket } from "../platform/unix_socket.ts";
import { Busy, NoService } from "./close_reasons.ts";

/** Timeout for a place in the queue of git-annex's socket, which empties it at once if it can, or for a file. */
const QUEUE_TIMEOUT_MS = 5_000;
/** Interval between two attempts while the queue is full. */
const RETRY_INTERVAL_MS = 100;

/** Tests pass others. */
export interface AnnexSocketLimits {
  readonly queueTimeoutMs: number;
  readonly retryIntervalMs: number;
}

/** How to connect to git-annex's socket. */
export interface AnnexSocketOptions {
  /** Path of the unix socket on which git-annex listens. */
  readonly socketPath: string;
  /** Called if no process listens on the socket. */
  readonly socketRefused: () => void;
  readonly limits?: Partial<AnnexSocketLimits>;
  /** Connects once; tests pass another function. */
  readonly connect?: typeof UnixSocket.connect;
}

/**
 * Connects to git-annex's socket.
 *
 * @param see Is shown all bytes from git-annex.
 * @param signal Gives up.
 * @throws {Busy} if the queue stays full, or no file can be opened; {NoService} if the socket does not answer, or the signal's reason.
 */
export async function connectToAnnex(
  options: AnnexSocketOptions,
  see: (chunk: Uint8Array) => void,
  signal: AbortSignal,
): Promise<UnixSocket> {
  const { socketPath, socketRefused, limits = {}, connect = UnixSocket.connect } = options;
  const { queueTimeoutMs = QUEUE_TIMEOUT_MS, retryIntervalMs = RETRY_INTERVAL_MS } = limits;
  const deadline = performance.now() + queueTimeoutMs;
  for (;;) {
    try {
      // The system answers at once. It does not wait for git-annex.
      return await connect(socketPath, see);
    } catch (error) {
      const isPassing = error instanceof Deno.errors.WouldBlock || isOutOfFiles(error);
      if (!isPassing) {
        if (nobodyListens(error)) socketRefused();
        throw new NoService(`git-annex's socket does not answer, ${systemReason(error)}`);
      }
    }
    if (performance.now() > deadline) throw new Busy();
    await delay(retryIntervalMs, signal);
  }
}
