/** Copies two duplex streams into each other. */

import { abortable } from "../async/abort.ts";
import type { Duplex } from "./duplex.ts";

/** How one direction of a {@linkcode splice} ended. */
export interface DirectionResult {
  /** Why it ended before its end-of-file; undefined if all data came through. */
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
 * Copies `a` into `b` and `b` into `a`, until both directions have ended.
 *
 * - An end-of-file is passed on as a half-close. The other direction goes on.
 * - If a write fails, the side that is read from is cancelled.
 * - If a read fails, the data read before is written, then the other side is aborted with the error.
 *
 * Each direction holds at most one chunk. A stream may read ahead by itself.
 *
 * @param signal Gives up both directions at once, without waiting for a write, which may never end. The owner of
 * the streams closes them.
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

/** Copies one direction like `pipeTo`, and releases each chunk. */
async function pump(from: Duplex, to: Duplex, signal: AbortSignal): Promise<void> {
  const reader = from.readable.getReader(), writer = to.writable.getWriter();
  const stopped = new AbortController();
  const giveUp = (reason: unknown) => {
    stopped.abort(reason);
    // The result has the reason already. An error of the cancellation adds nothing.
    reader.cancel(reason).catch(() => {});
  };
  writer.closed.catch(giveUp);
  const onAbort = () => {
    giveUp(signal.reason);
    writer.abort(signal.reason).catch(() => {}); // the result has the reason already
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
      await writer.closed; // rejects with the cause, if the stream failed just before `close`
      throw error;
    });
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Reads the next chunk. If that fails, it aborts the writer with the error. */
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
