/**
 * Answers joiners: peers that a listener has invited, and that no token lets in yet. Until a peer has sent the secret
 * of an invitation it is a stranger, and has few tries. All wrong secrets get the same answer at once. There
 * is no pause for all: 128 bits are not guessed, and a pause would keep the right joiner out.
 */

import { abortable, LinkedSignal } from "../async/abort.ts";
import type { InvitationBook } from "../pairing/invitation_book.ts";
import {
  type PairingAnswer,
  type PairingRequest,
  readRequest,
  sendAnswer,
} from "../pairing/messages.ts";
import { IdleTimeout, NO_HEADER } from "../protocol/connection_use.ts";
import type { MuxConnection } from "../protocol/peer_connection.ts";
import { readEnd } from "../protocol/mux.ts";
import { type Duplex, giveUp, StreamError } from "../streams/duplex.ts";
import { Evicted } from "./admission.ts";
import { closeReasonFor, NotInvited } from "./close_reasons.ts";

/** Maximum number of wrong secrets on a connection, and those that are under way. A person mistypes no checksum. */
const MAX_TRIES = 4;
/** Maximum number of requests that are being read, of all strangers. Each is in one packet. */
const MAX_UNPROVEN = 16;
/** Timeout for a request, the same as for a stream's header. */
const REQUEST_TIMEOUT_MS = 10_000;
/** Timeout for a peer to take the answer, and then to end its stream: several round trips of a slow network. */
const END_TIMEOUT_MS = 5_000;

/** The limits of a pairing server. Tests pass others. */
export interface PairingLimits {
  readonly requestTimeoutMs: number;
  readonly endTimeoutMs: number;
}

/** The joiner's connection. */
export type JoinerConnection = Pick<
  MuxConnection,
  "connection" | "isAuthenticated" | "markAuthenticated"
>;

/** Answers the joiners of a listener, on all its connections. */
export class PairingServer {
  readonly #book: Pick<InvitationBook, "use">;
  readonly #limits: PairingLimits;
  /** Requests that are being read, oldest first. */
  readonly #reading = new Set<AbortController>();
  /** Tries of each connection that have failed or are under way. */
  readonly #tries = new WeakMap<JoinerConnection, number>();

  constructor(book: Pick<InvitationBook, "use">, limits: Partial<PairingLimits> = {}) {
    this.#book = book;
    this.#limits = {
      requestTimeoutMs: REQUEST_TIMEOUT_MS,
      endTimeoutMs: END_TIMEOUT_MS,
      ...limits,
    };
  }

  /**
   * Answers the request on a stream, of which the header is read.
   *
   * @throws {StreamError} if the peer gives up the stream. Any other error is to end the connection.
   */
  async serve(stream: Duplex, joiner: JoinerConnection, signal: AbortSignal): Promise<void> {
    const tries = (this.#tries.get(joiner) ?? 0) + 1;
    this.#tries.set(joiner, tries);
    if (tries > MAX_TRIES) return refuse(stream);
    const request = await this.#read(stream, joiner, signal);
    const answer = this.#book.use(request, joiner.connection.publicKey.toHex());
    if (answer) {
      this.#tries.delete(joiner);
      joiner.markAuthenticated(); // it gets a token of git-annex
      await this.#send(stream, await abortable(answer(), signal), signal);
    } else await this.#send(stream, { kind: "refused" }, signal);
    await this.#finish(stream, signal);
    if (!answer && tries === MAX_TRIES) throw new NotInvited();
  }

  /** Reads a request. That of a stranger may give way to newer ones, since a right one takes no time. */
  async #read(
    stream: Duplex,
    { isAuthenticated }: JoinerConnection,
    signal: AbortSignal,
  ): Promise<PairingRequest> {
    const reading = new AbortController();
    if (!isAuthenticated) this.#count(reading);
    using limit = new LinkedSignal([signal, reading.signal], {
      milliseconds: this.#limits.requestTimeoutMs,
      reason: new IdleTimeout(NO_HEADER),
    });
    try {
      return await abortable(readRequest(stream), limit.signal);
    } finally {
      this.#reading.delete(reading);
    }
  }

  #count(reading: AbortController): void {
    this.#reading.add(reading);
    const [oldest] = this.#reading;
    if (this.#reading.size <= MAX_UNPROVEN) return;
    this.#reading.delete(oldest!);
    oldest!.abort(new Evicted());
  }

  /** Sends an answer. A peer may take no bytes, and would keep its connection so. */
  async #send(stream: Duplex, answer: PairingAnswer, signal: AbortSignal): Promise<void> {
    using limit = new LinkedSignal([signal], {
      milliseconds: this.#limits.endTimeoutMs,
      reason: new IdleTimeout(NO_HEADER),
    });
    await abortable(sendAnswer(stream, answer), limit.signal);
  }

  /** Ends the stream. The joiner ends its direction when it has read the answer. */
  async #finish(stream: Duplex, signal: AbortSignal): Promise<void> {
    using limit = new LinkedSignal([signal], { milliseconds: this.#limits.endTimeoutMs });
    try {
      await abortable(Promise.all([stream.writable.close(), readEnd(stream)]), limit.signal);
    } catch (error) {
      giveUp(stream);
      signal.throwIfAborted();
      if (!limit.signal.aborted) throw error;
    }
  }
}

/** Gives up a stream of a peer that has no tries left. */
function refuse(stream: Duplex): void {
  const [code, message] = closeReasonFor(new NotInvited());
  const reason = new StreamError("refused", message, { code });
  stream.readable.cancel(reason).catch(() => {}); // the connection is gone, and the stream with it
  stream.writable.abort(reason).catch(() => {}); // fails for the same reason
}
