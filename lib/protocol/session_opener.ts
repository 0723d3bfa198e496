/** Opens sessions on one of iroh's connections, and the streams that belong to them. */

import { abortable, LinkedSignal } from "../async/abort.ts";
import { Notifier } from "../async/notifier.ts";
import type { Connection } from "../iroh/connection.ts";
import { type Duplex, giveUp, StreamError } from "../streams/duplex.ts";
import { withFirstData } from "./first_data.ts";
import { MAX_STRANGER_SESSIONS, StreamType, writeStreamHeader } from "./mux.ts";

/** Timeout for opening a stream, which takes no time unless the peer's limit of streams is reached. */
const OPEN_TIMEOUT_MS = 5_000;
/** Timeout for the peer to let this end in, after which a further session is opened nevertheless. */
const TURN_TIMEOUT_MS = 10_000;
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
  /** Whether the peer may take this end for a stranger, and then accepts few sessions. */
  #isStranger: boolean;
  /** Number of sessions that were opened as a stranger, and are still open. */
  #strangerSessions = 0;
  #changed = new Notifier();

  #turnTimeoutMs: number;

  /**
   * @param isStranger Whether the peer takes this end for a stranger until git-annex has let it in.
   * @param turnTimeoutMs Tests pass another one.
   */
  constructor(connection: Connection, isStranger: boolean, turnTimeoutMs = TURN_TIMEOUT_MS) {
    this.#connection = connection;
    this.#isStranger = isStranger;
    this.#turnTimeoutMs = turnTimeoutMs;
    connection.closedError.then(() => this.letIn()); // what waits fails when it opens a stream
  }

  /** Notes that the peer does not take this end for a stranger. */
  letIn(): void {
    this.#isStranger = false;
    this.#changed.notify();
  }

  /** Waits while the peer would reset a further session, and counts that session. @throws The signal's reason. */
  async #takeTurn(signal: AbortSignal): Promise<void> {
    using limit = new LinkedSignal([signal], { milliseconds: this.#turnTimeoutMs });
    while (this.#isStranger && this.#strangerSessions >= MAX_STRANGER_SESSIONS) {
      await abortable(this.#changed.next(), limit.signal).catch(() => signal.throwIfAborted());
      if (limit.signal.aborted) break; // let the peer decide
    }
    this.#strangerSessions++;
  }

  /** Whether the peer's limit of streams permits one more session with its lane. */
  get hasRoom(): boolean {
    return this.#streams + 2 <= MAX_STREAMS;
  }

  /** Opens or resumes a session. @throws {StreamError} if the connection has ended, or the signal's reason. */
  async open(request: SessionRequest, signal: AbortSignal): Promise<OpenedSession> {
    // The peer has let this end in before, if it knows the session.
    if (!this.#isStranger || request.isResumed) return await this.#open(request, signal);
    await this.#takeTurn(signal);
    const end = () => {
      this.#strangerSessions--;
      this.#changed.notify();
    };
    try {
      const opened = await this.#open(request, signal);
      return {
        ...opened,
        stream: withFirstData(opened.stream, () => this.letIn()),
        [Symbol.dispose]: () => {
          opened[Symbol.dispose]();
          end();
        },
      };
    } catch (error) {
      end();
      throw error;
    }
  }

  async #open({ id, isResumed }: SessionRequest, signal: AbortSignal): Promise<OpenedSession> {
    const session = this.#sessionsOpened++;
    let streams = 0, isEnded = false;
    const openFor = async (
      header: Parameters<typeof writeStreamHeader>[1],
      signal: AbortSignal,
    ) => {
      using linked = new LinkedSignal([signal], { milliseconds: OPEN_TIMEOUT_MS });
      const limit = linked.signal;
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
