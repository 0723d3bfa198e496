/** Opens sessions on one of iroh's connections, and the streams that belong to them. */

import { abortable } from "../async/abort.ts";
import type { Connection } from "../iroh/connection.ts";
import { type Duplex, giveUp, StreamError } from "../streams/duplex.ts";
import { StreamType, writeStreamHeader } from "./mux.ts";

/** Timeout for opening a stream, which takes no time unless the peer's limit of streams is reached. */
const OPEN_TIMEOUT_MS = 5_000;
/** Maximum number of streams that this end has open on a connection. noq grants 100. */
const MAX_STREAMS = 96;

/** Which session to open, or to go on with. */
export interface SessionRequest {
  /** See {@linkcode newSessionId}. */
  readonly id: string;
  /** Whether it was opened on another connection, which was lost. */
  readonly isResumed: boolean;
}

/** A session that this end has opened. Dispose of it when it is over. */
export interface OpenedSession extends Disposable {
  /** The stream of the session, after its header. */
  readonly stream: Duplex;
  /** Opens a stream on which to agree on a lane for the session. */
  openLane(signal: AbortSignal): Promise<Duplex>;
}

/** Opens the sessions of this end on a connection. */
export class SessionOpener {
  #connection: Connection;
  #sessionsOpened = 0;
  /** Number of streams that this end has opened, and that may still be open. */
  #streams = 0;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Whether the peer's limit of streams permits one more session with its lane. */
  get hasRoom(): boolean {
    return this.#streams + 2 <= MAX_STREAMS;
  }

  /** Opens or resumes a session. @throws {StreamError} if the connection has ended, or the signal's reason. */
  async open({ id, isResumed }: SessionRequest, signal: AbortSignal): Promise<OpenedSession> {
    const session = this.#sessionsOpened++;
    let streams = 0, isEnded = false;
    const openFor = async (
      header: Parameters<typeof writeStreamHeader>[1],
      signal: AbortSignal,
    ) => {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(OPEN_TIMEOUT_MS)]);
      const stream = await abortable(this.#connection.open(), limit, giveUp);
      try {
        await abortable(writeStreamHeader(stream, header), limit);
        if (isEnded) throw new StreamError("closed", "the session is over");
      } catch (error) {
        giveUp(stream);
        throw error;
      }
      streams++;
      this.#streams++;
      return stream;
    };
    const type = isResumed ? StreamType.RESUME : StreamType.SESSION;
    return {
      stream: await openFor({ type, session, id }, signal),
      openLane: (signal) => openFor({ type: StreamType.LANE, session }, signal),
      [Symbol.dispose]: () => {
        isEnded = true;
        this.#streams -= streams;
      },
    };
  }
}
