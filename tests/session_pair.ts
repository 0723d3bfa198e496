/** Two ends of a session in memory. */

import { Session, type SessionOptions } from "../lib/protocol/session.ts";
import type { StreamError } from "../lib/streams/duplex.ts";
import {
  type DirectionOptions,
  type MemoryEnd,
  type MemoryLane,
  memoryLane,
  memoryStream,
} from "./memory_carriers.ts";

/** One end of a session, and what a test does with it. */
export class SessionEnd {
  readonly session: Session;
  readonly home: MemoryEnd;
  /** Ends iroh's connection, as this end sees it. */
  readonly closeConnection: (error: StreamError) => void;
  readonly writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  /** Lanes that were lost. */
  readonly lost: Error[] = [];
  /** Resolves with the error of the writing direction; undefined if it was closed in order. */
  readonly writeError: Promise<unknown>;

  constructor(stream: ReturnType<typeof memoryStream>[0], options: SessionOptions) {
    const closed = Promise.withResolvers<StreamError>();
    const onLaneLost = (_: unknown, reason: Error) => void this.lost.push(reason);
    this.session = new Session(stream, closed.promise, { onLaneLost, ...options });
    this.session.markAuthenticated();
    this.home = stream;
    this.closeConnection = closed.resolve;
    this.writer = this.session.writable.getWriter();
    this.reader = this.session.readable.getReader();
    this.writeError = this.writer.closed.then(() => undefined, (error) => error);
  }

  async write(bytes: number): Promise<void> {
    await this.writer.write(new Uint8Array(bytes));
  }

  /** Reads so many bytes, or to the end. @returns How many there were. */
  async read(bytes = Infinity): Promise<number> {
    let count = 0;
    while (count < bytes) {
      const { value } = await this.reader.read();
      if (!value) break;
      count += value.length;
      this.session.release(value);
    }
    return count;
  }
}

/** Makes a session. */
export function makePair(
  options: SessionOptions = {},
  home: DirectionOptions = {},
): [SessionEnd, SessionEnd] {
  const [a, b] = memoryStream(home);
  return [new SessionEnd(a, options), new SessionEnd(b, options)];
}

/** Attaches a lane at both ends. */
export function attachLane(
  [a, b]: readonly [SessionEnd, SessionEnd],
  forth: DirectionOptions = {},
  back: DirectionOptions = forth,
): [MemoryLane, MemoryLane] {
  const ends = memoryLane(forth, back);
  a.session.attachLane(ends[0]);
  b.session.attachLane(ends[1]);
  return ends;
}
