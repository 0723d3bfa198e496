/**
 * One of iroh's connections on our own wire, with the streams that either end opens on it. Nobody
 * closes it when a session is over: it is kept for the next one, for a while.
 */

import { abortable } from "../async/abort.ts";
import { type Duplex, giveUp, StreamError } from "../streams/duplex.ts";
import type { Connection } from "../iroh/endpoint.ts";
import type { LaneLink } from "../lane/lane_control.ts";
import { debug } from "../console/stderr.ts";
import {
  answerPing,
  begin,
  type Opening,
  ProtocolError,
  receiveOpening,
  StreamKind,
} from "./mux.ts";
import { CloseCode } from "./dumbpipe.ts";
import { Session } from "./session.ts";

/** For the first stream, and for a stream to say what it is for. */
const HELLO_LIMIT_MS = 10_000;
/** Without use a connection is kept for so long by whoever dialed, */
const KEPT_MS = 60_000;
/** and longer by the other end, so that the one who needs it closes it. */
const KEPT_FOR_PEER_MS = 90_000;
/** For a peer that offers a lane to be let in. */
const LET_IN_LIMIT_MS = 5_000;

/** A stream is opened at once, unless the peer grants no more. */
const OPEN_LIMIT_MS = 5_000;
/** Streams of ours on a connection at once, of the 100 that noq grants. */
const MOST_STREAMS = 96;

/** With what a connection or a session is ended. */
export type Closing = readonly [code: bigint, reason: string];

const DONE: Closing = [CloseCode.DONE, ""];
const NO_HELLO: Closing = [CloseCode.BAD_HELLO, "no hello"];

/** How a connection is served. */
export interface PeerConnectionOptions {
  /** Whether it was dialed from here, and so to somebody who is meant to be reached. */
  readonly isDialed: boolean;
  /** The setting. */
  readonly bind: string | undefined;
  /** Serves a session of the peer's, to its end. Never rejects. */
  readonly serve: (session: PeerSession) => Promise<void>;
  /** Called each time it is found that the peer is no stranger. */
  readonly letIn?: () => void;
  /** For so long it is kept without use, if not for as long as is usual. */
  readonly keptMs?: number;
}

/** A session that was opened here. Dispose of it when it is over. */
export interface OpenedSession extends Disposable {
  /** After what says what it is for. */
  readonly stream: Duplex;
  /** A stream on which to agree on a lane for it. */
  openLane(signal: AbortSignal): Promise<Duplex>;
}

/** A connection with a peer that speaks our own wire. Whoever makes it calls {@linkcode serve} once. */
export class PeerConnection {
  readonly connection: Connection;
  /** Since when there has been no session, by the clock of `performance`; undefined while there is one. */
  idleSince: number | undefined = performance.now();
  #options: PeerConnectionOptions;
  /** Whether the peer is no stranger. */
  #isKnown: boolean;
  #opened = 0;
  /** Streams that were opened here, and are not known to be over. */
  #streams = 0;
  /** Of the peer's sessions, by number. */
  #sessions = new Map<number, PeerSession>();
  #serving = new Set<Promise<void>>();
  #active = 0;
  /** What the peer was told last when a session of its was turned away. */
  #refusal: Closing | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;
  #over = new AbortController();

  constructor(connection: Connection, options: PeerConnectionOptions) {
    this.connection = connection;
    this.#options = options;
    this.#isKnown = options.isDialed;
    connection.over.then(() => this.#isOver = true);
  }

  /** Whether it was dialed from here. */
  get isDialed(): boolean {
    return this.#options.isDialed;
  }

  /** Whether the peer is no stranger. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  /** The peer is no stranger: git-annex has let it in, or it is to be reached. */
  letIn(): void {
    this.#isKnown = true;
    this.#options.letIn?.();
  }

  /** Whether the connection has ended. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether there is more than one session. */
  get isShared(): boolean {
    return this.#active > 1;
  }

  /** A session of the peer's was turned away. */
  refused(closing: Closing): void {
    this.#refusal = closing;
  }

  /**
   * Serves what the peer opens, until the connection ends or has not been used for a while.
   *
   * @throws {Idle}, {ProtocolError}, {StreamError} when the connection has ended, or the signal's reason.
   * Whoever calls it then closes the connection; all sessions are over.
   */
  async serve(signal: AbortSignal): Promise<never> {
    const until = AbortSignal.any([signal, this.#over.signal]);
    this.#rest();
    try {
      for (;;) {
        const stream = await this.connection.accept(until);
        this.#take(stream, until).catch((error) => {
          if (!(error instanceof StreamError)) return this.#over.abort(error);
          // The peer has changed its mind: that stream is over, and nothing else.
          debug(() => `a stream: ${error.message}`);
          giveUp(stream);
        });
      }
    } catch (error) {
      // When it is the connection that has ended, each session knows how to end by itself.
      if (!(error instanceof StreamError)) {
        for (const session of this.#sessions.values()) session.end(error);
      }
      await Promise.all(this.#serving);
      throw error;
    } finally {
      clearTimeout(this.#timer);
    }
  }

  /** Whether one more session can be opened here, and its lane: a peer grants so many streams. */
  get hasRoom(): boolean {
    return this.#streams + 2 <= MOST_STREAMS;
  }

  /** Opens a session. @throws {StreamError} if the connection is no more, or the signal's reason. */
  async open(signal: AbortSignal): Promise<OpenedSession> {
    const number = this.#opened++;
    let streams = 0, isOver = false;
    const openFor = async (
      kind: typeof StreamKind.SESSION | typeof StreamKind.LANE,
      signal: AbortSignal,
    ) => {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(OPEN_LIMIT_MS)]);
      const stream = await abortable(this.connection.open(), limit, giveUp);
      try {
        await abortable(begin(stream, kind, number), limit);
        if (isOver) throw new StreamError("closed", "the session is over");
      } catch (error) {
        giveUp(stream);
        throw error;
      }
      streams++;
      this.#streams++;
      return stream;
    };
    this.#begin();
    try {
      const stream = await openFor(StreamKind.SESSION, signal);
      this.letIn(); // whoever is to be reached is no stranger, whichever end has dialed
      return {
        stream,
        openLane: (signal) => openFor(StreamKind.LANE, signal),
        [Symbol.dispose]: () => {
          isOver = true;
          this.#streams -= streams;
          this.#end();
        },
      };
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  /** Closes it in an orderly way. */
  retire(): void {
    this.#over.abort(new Idle(DONE));
  }

  async #take(stream: Duplex, until: AbortSignal): Promise<void> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(new Idle(NO_HELLO)), HELLO_LIMIT_MS);
    try {
      const signal = AbortSignal.any([until, limit.signal]);
      const opening = await abortable(receiveOpening(stream), signal);
      if (opening.kind === StreamKind.PING) {
        await abortable(answerPing(stream), signal);
        if (this.#active === 0) this.#rest();
      } else this.#takeFor(opening, stream, until);
    } finally {
      clearTimeout(timer);
    }
  }

  #takeFor(opening: Opening & { session: number }, stream: Duplex, until: AbortSignal): void {
    const known = this.#sessions.get(opening.session);
    if (opening.kind === StreamKind.SESSION && !known) {
      const session = new PeerSession(this, stream, this.#options.bind);
      this.#sessions.set(opening.session, session);
      this.#begin();
      const serving = this.#options.serve(session).catch((error) => {
        this.#over.abort(error); // which serves nobody any more
      }).finally(() => {
        session[Symbol.dispose]();
        this.#sessions.delete(opening.session);
        this.#serving.delete(serving);
        this.#end();
      });
      this.#serving.add(serving);
    } else if (opening.kind === StreamKind.LANE && known) {
      known.answerLane(stream, until).catch((error) => this.#over.abort(error));
    } else if (opening.kind === StreamKind.LANE) {
      // Its session has ended while this was on its way.
      giveUp(stream);
    } else throw new ProtocolError("a session's number a second time");
  }

  #begin(): void {
    this.#active++;
    this.idleSince = undefined;
    clearTimeout(this.#timer);
  }

  #end(): void {
    this.#active--;
    if (this.#active > 0) return;
    this.idleSince = performance.now();
    // A stranger whose session is over has no more to do here.
    if (this.#isKnown) this.#rest();
    else this.#over.abort(new Idle(this.#refusal ?? DONE));
  }

  #rest(): void {
    clearTimeout(this.#timer);
    const { isDialed, keptMs = isDialed ? KEPT_MS : KEPT_FOR_PEER_MS } = this.#options;
    this.#timer = setTimeout(
      () => this.#over.abort(new Idle(this.#isKnown ? DONE : NO_HELLO)),
      this.#isKnown ? keptMs : HELLO_LIMIT_MS,
    );
    Deno.unrefTimer(this.#timer);
  }
}

/** A session of the peer's, and the lane it may move to. */
export class PeerSession implements Disposable {
  readonly session: Session;
  readonly connection: Connection;
  #owner: PeerConnection;
  #bind: string | undefined;
  #link: Promise<LaneLink | undefined> | undefined;
  #lane: string | undefined;
  #letIn = Promise.withResolvers<void>();
  #ended = new AbortController();

  constructor(owner: PeerConnection, stream: Duplex, bind: string | undefined) {
    this.session = new Session(stream, owner.connection.over);
    this.connection = owner.connection;
    this.#owner = owner;
    this.#bind = bind;
  }

  /** Kind and address of the lane by which it goes. */
  get lane(): string | undefined {
    return this.#lane;
  }

  /** Aborted when the connection is given up. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** The connection is given up. */
  end(reason: unknown): void {
    this.#ended.abort(reason);
  }

  /** Ends it in the middle, and says why. */
  turnAway(closing: Closing): void {
    const [code, reason] = closing;
    this.#owner.refused(closing);
    this.session.turnAway(new StreamError("refused", reason, { code }));
  }

  /** git-annex has let the peer in. */
  letIn(): void {
    this.#letIn.resolve();
    this.#owner.letIn();
  }

  /** Answers the offer of a lane. @throws {ProtocolError} if it is none. */
  async answerLane(stream: Duplex, signal: AbortSignal): Promise<void> {
    if (this.#link) throw new ProtocolError("a second lane");
    const until = AbortSignal.any([signal, this.#ended.signal]);
    this.#link = (async () => {
      // A stranger could make this host dial whatever it names; what lets it in may have been said,
      // and not been seen yet.
      const limit = AbortSignal.any([until, AbortSignal.timeout(LET_IN_LIMIT_MS)]);
      const wanted = await abortable(this.#letIn.promise, limit).then(() => true, () => false);
      const [{ answerLane }, { endsOf }] = await Promise.all([
        import("../lane/negotiation.ts"),
        import("../lane/local_addresses.ts"),
      ]);
      const ends = endsOf(this.connection, this.#bind);
      const link = await answerLane(stream, this.session, ends, wanted, until);
      if (link) this.#lane = `${link.lane.kind} ${link.lane.remote}`;
      return link;
    })();
    await this.#link.catch((error) => {
      debug(() => `no lane: ${error}`); // the session stays where it is
      if (error instanceof Error && error.name === "BadOffer") {
        throw new ProtocolError(error.message);
      }
    });
  }

  [Symbol.dispose](): void {
    this.#ended.abort(new StreamError("closed", "the session is over"));
    this.#link?.then((link) => link?.[Symbol.dispose](), () => {}); // there is none
    this.session.leave();
  }
}

/** A connection has not been used for long enough. */
export class Idle extends Error {
  override readonly name = "Idle";

  /** @param closing How to close it. */
  constructor(readonly closing: Closing) {
    super("it is idle");
  }
}
