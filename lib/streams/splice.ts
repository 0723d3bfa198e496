/** Copy two duplex streams into each other. */

import { abortable } from "../async/abort.ts";
import type { Duplex } from "./duplex.ts";

/** How one direction of a {@linkcode splice} ended. */
export interface DirectionResult {
  /** Why it ended before its end-of-file, or undefined when everything came through. */
  readonly error?: unknown;
}

/** How a {@linkcode splice} ended. */
export interface SpliceResult {
  /** From the first stream to the second. */
  readonly aToB: DirectionResult;
  /** From the second stream to the first. */
  readonly bToA: DirectionResult;
}

/**
 * Copies `a` into `b` and `b` into `a` at once, until both directions have ended.
 *
 * Each direction ends on its own: an end-of-file is passed on as one (half-close), and the other
 * direction goes on. When a side that is written to is gone, what feeds it is cancelled; when a side
 * that is read from fails, everything already read from it is written, then the other side learns of
 * the failure. At most one chunk a direction is held here; who wants more reads ahead in the stream.
 *
 * @param signal Gives up both directions at once, not waiting for a write that is under way: it may never
 * end. Whoever owns the streams closes what is behind them.
 * @returns How each direction ended. Never rejects.
 */
export async function splice(
  a: Duplex,
  b: Duplex,
  signal: AbortSignal = new AbortController().signal,
): Promise<SpliceResult> {
  const [aToB, bToA] = await Promise.all([
    directionResult(pump(a, b, signal), signal),
    directionResult(pump(b, a, signal), signal),
  ]);
  return { aToB, bToA };
}

/** One direction, like `pipeTo`, and says when it is done with a chunk. */
async function pump(from: Duplex, to: Duplex, signal: AbortSignal): Promise<void> {
  const reader = from.readable.getReader(), writer = to.writable.getWriter();
  const stopped = new AbortController();
  const giveUp = (reason: unknown) => {
    stopped.abort(reason);
    // Why it is given up is what whoever waits is told, not what becomes of that.
    reader.cancel(reason).catch(() => {});
  };
  writer.closed.catch(giveUp);
  const onAbort = () => {
    giveUp(signal.reason);
    writer.abort(signal.reason).catch(() => {}); // as above
  };
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    for (let chunk; (chunk = await next(reader, writer));) {
      stopped.signal.throwIfAborted();
      await writer.write(chunk);
      from.release?.(chunk);
    }
    stopped.signal.throwIfAborted();
    await writer.close().catch(async (error) => {
      await writer.closed; // says why, where the stream has just failed, and `close` only that it has
      throw error;
    });
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** The next chunk. What is read from having failed, the other side learns of it. */
async function next(
  reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
  writer: WritableStreamDefaultWriter<Uint8Array>,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    return (await reader.read()).value;
  } catch (error) {
    await writer.abort(error);
    throw error;
  }
}

function directionResult(direction: Promise<void>, signal: AbortSignal): Promise<DirectionResult> {
  return abortable(direction, signal).then(() => ({}), (error) => ({ error }));
}
