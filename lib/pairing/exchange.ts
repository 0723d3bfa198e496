/** The joiner's side of a pairing: asks the inviter's listener, each time on a new stream. */

import { abortable, delay, LinkedSignal } from "../async/abort.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { dialPeer } from "../dial/dialer.ts";
import { Unreachable } from "../dial/unreachable.ts";
import type { Connection, LocalEndpoint } from "../iroh/connection.ts";
import { CLOSE_REASONS, CloseCode } from "../protocol/close_codes.ts";
import { DUMBPIPE_ALPN } from "../protocol/dumbpipe.ts";
import { MUX_ALPN, noticeLossSoon, ProtocolError, readEnd } from "../protocol/mux.ts";
import type { Settings } from "../repository/settings.ts";
import { type Duplex, giveUp, StreamError } from "../streams/duplex.ts";
import type { AnnexLine } from "./annex_line.ts";
import type { Invitation } from "./invitation.ts";
import {
  type Linked,
  type PairingAnswer,
  type PairingRequest,
  readAnswer,
  sendRequest,
  type Welcome,
} from "./messages.ts";

/** Protocols to offer. With dumbpipe's, it turns out that the inviter speaks no other. */
const ALPNS = [MUX_ALPN, DUMBPIPE_ALPN];
/** Timeout for an answer: a step of the inviter has 60 s, and may wait for the step of another joiner. */
const ANSWER_TIMEOUT_MS = 75_000;
/**
 * Maximum attempts of a request, and the pause after the first, which grows by as much. The inviter's listener may be
 * busy with strangers, or start again.
 */
const MAX_ATTEMPTS = 5, PAUSE_MS = 500;
/** Time of a failed dial after which another is in vain: the inviter is not there. */
const LONG_DIAL_MS = 4_000;

/** A request, to which the secret is added. What it does can be repeated. */
type Request = WithoutSecret<PairingRequest>;
type WithoutSecret<R> = R extends PairingRequest ? Omit<R, "secret"> : never;

/** The invitation is unknown, used by another, expired or withdrawn. The inviter does not say which. */
export class InvitationRefused extends Failure {
  override readonly name = "InvitationRefused";

  constructor() {
    super("the invitation is not valid, or no longer", {
      hint: "it works once and for a limited time, so ask for a new one",
    });
  }
}

/** This joiner is done with the invitation already, as the inviter knows. */
export class AlreadyJoined extends Failure {
  override readonly name = "AlreadyJoined";

  constructor() {
    super("this invitation was used here before, and both sides were linked", {
      hint: "if you have removed the remote, ask for a new invitation",
    });
  }
}

/** The inviter cannot be reached, or no longer. */
export class InviterAway extends Failure {
  override readonly name = "InviterAway";

  constructor(message: string, cause?: unknown) {
    super(message, {
      hint: "it must be online, with git-annex-p2p-iroh invite or up running; then join again",
      cause,
    });
  }
}

/** The inviter cannot be reached at this moment, so the request is made again. */
class NotNow extends InviterAway {}

/** The program at the inviter's side takes no invitations, or not those of this version. */
export class InviterUnable extends Failure {
  override readonly name = "InviterUnable";

  constructor(message: string, hint = "use the same version of git-annex-p2p-iroh on both sides") {
    super(message, { hint });
  }
}

/** The inviter cannot do its part at present. */
export class InviterFailed extends Failure {
  override readonly name = "InviterFailed";

  constructor(message: string) {
    super(`the other side could not do its part: ${message}`, { hint: "join again, or see there" });
  }
}

/** What the exchange needs. */
export interface ExchangeOptions {
  /** Key of {@linkcode joinKey}, by which the inviter knows the joiner again. */
  readonly secretKey: Uint8Array;
  /** The joiner's settings, after {@linkcode withRelayToken}. */
  readonly settings: Settings;
  /** Dials the inviter; tests pass another function. */
  readonly dial?: typeof dialPeer;
  /** Timeout for an answer; tests pass a shorter one. */
  readonly answerTimeoutMs?: number;
  /** Pause between attempts; tests pass a shorter one. */
  readonly pauseMs?: number;
}

/**
 * The joiner's side. The steps come in this order; each may be repeated, also by another process with the same key.
 * Each dials if there is no connection, and dials again if that is lost.
 *
 * All throw {@linkcode InvitationRefused}, {@linkcode InviterAway}, {@linkcode InviterUnable},
 * {@linkcode InviterFailed}, or the signal's reason.
 */
export class Exchange implements AsyncDisposable {
  readonly #invitation: Invitation;
  readonly #options: ExchangeOptions;
  /** Kept for the next dial, since each endpoint of this key takes the packets of the one before. */
  #endpoint: LocalEndpoint | undefined;
  #connection: Connection | undefined;
  #hasAsked = false;

  /** Nothing is sent yet. The caller has made sure that the invitation is not this repository's own. */
  constructor(invitation: Invitation, options: ExchangeOptions) {
    this.#invitation = invitation;
    this.#options = options;
  }

  /**
   * Uses the invitation, which is this joiner's from then on. The line in the answer lets it in at the inviter.
   *
   * @param name What this repository calls itself. @throws {AlreadyJoined}
   */
  async join(name: string, signal: AbortSignal): Promise<Welcome> {
    const answer = await this.#ask({ kind: "join", name }, signal);
    if (answer.kind === "over") throw new AlreadyJoined();
    return expected(answer, "welcome");
  }

  /** Lets the inviter make this repository a remote. It must be served: git-annex there connects to it. @throws {AlreadyJoined} */
  async link(line: AnnexLine, signal: AbortSignal): Promise<Linked> {
    const answer = await this.#ask({ kind: "link", line }, signal);
    if (answer.kind === "over") throw new AlreadyJoined();
    return expected(answer, "linked");
  }

  /** Says that the inviter is a remote here. The invitation is over then. */
  async done(signal: AbortSignal): Promise<void> {
    expected(await this.#ask({ kind: "done" }, signal), "over");
  }

  /** Gives up, in place of the rest: the inviter removes the remote. @param reason Why, for people. */
  async cancel(reason: string, signal: AbortSignal): Promise<void> {
    expected(await this.#ask({ kind: "cancel", reason }, signal), "over");
  }

  /** Whether a request may have reached the inviter, so that it may know this joiner. */
  get hasAsked(): boolean {
    return this.#hasAsked;
  }

  /** Closes the connection and its endpoint. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection?.closeAndSend(CloseCode.DONE, "");
    this.#leave(undefined);
  }

  /** Closes the endpoint unless it is used further. Not awaited: that may take a second. */
  #leave(next: LocalEndpoint | undefined): void {
    if (this.#endpoint !== next) {
      this.#endpoint?.[Symbol.asyncDispose]().catch((error) => debug(() => `closing: ${error}`));
    }
    this.#endpoint = next;
  }

  async #ask(request: Request, signal: AbortSignal): Promise<PairingAnswer> {
    const { pauseMs = PAUSE_MS } = this.#options;
    for (let attempt = 1;; attempt++) {
      try {
        const connection = this.#connection ?? await this.#dial(signal);
        return await this.#askOn(connection, request, signal);
      } catch (error) {
        signal.throwIfAborted();
        debug(() => `a request to the inviter: ${systemReason(error)}`);
        if (!(error instanceof NotNow) || attempt === MAX_ATTEMPTS) throw error;
        await delay(attempt * pauseMs, signal);
      }
    }
  }

  async #dial(signal: AbortSignal): Promise<Connection> {
    const { secretKey, settings, dial = dialPeer } = this.#options;
    const { publicKey, relay } = this.#invitation;
    const ticket = { publicKey, relays: relay ? [relay] : [], direct: [] };
    const from = this.#endpoint;
    const options = from ? { from, secretKey } : { secretKey };
    const begin = performance.now();
    const { connection } = await dial(ticket, settings, ALPNS, signal, options).catch((error) => {
      if (!(error instanceof Unreachable)) throw error;
      const isShort = performance.now() - begin < LONG_DIAL_MS;
      throw new (isShort ? NotNow : InviterAway)(error.message, error);
    });
    this.#leave(connection.endpoint);
    if (connection.alpn === DUMBPIPE_ALPN) {
      connection.close(CloseCode.DONE, "");
      throw new InviterUnable(
        "the other side takes no invitations, it speaks only dumbpipe's protocol",
        "pair with git annex p2p --pair, or with its --gen-addresses and --link",
      );
    }
    noticeLossSoon(connection);
    this.#connection = connection;
    connection.closed.then(() => {
      if (this.#connection === connection) this.#connection = undefined;
    });
    return connection;
  }

  /** Sends one request, and returns its answer. @throws {NotNow} if it can be tried again. */
  async #askOn(
    connection: Connection,
    request: Request,
    signal: AbortSignal,
  ): Promise<PairingAnswer> {
    const { answerTimeoutMs: milliseconds = ANSWER_TIMEOUT_MS } = this.#options;
    const reason = new InviterAway(
      `the other side does not answer within ${milliseconds / 1000} s`,
    );
    using limit = new LinkedSignal([signal], { milliseconds, reason });
    const { secret } = this.#invitation;
    try {
      const stream = await abortable(connection.open(), limit.signal, giveUp);
      this.#hasAsked = true;
      await abortable(sendRequest(stream, { ...request, secret }), limit.signal);
      const answer = await abortable(readAnswer(stream), limit.signal);
      end(stream);
      return answer;
    } catch (error) {
      // It also gives up a stream that is being read.
      connection.close(CloseCode.STOPPED, CLOSE_REASONS.get(CloseCode.STOPPED)!);
      if (this.#connection === connection) this.#connection = undefined;
      throw requestFailure(error);
    }
  }
}

/** Ends a stream in both directions. Not awaited: that takes a round trip. */
function end(stream: Duplex): void {
  stream.writable.close().catch(() => {}); // the connection is closed before
  readEnd(stream).catch(() => {}); // the connection is closed before
}

/** Returns what the failure of a request means. */
function requestFailure(error: unknown): unknown {
  if (error instanceof ProtocolError) {
    return new InviterUnable(`the other side does not answer as it should, ${error.message}`);
  }
  if (!(error instanceof StreamError)) return error;
  switch (error.code) {
    case CloseCode.UNSUPPORTED:
      return new InviterUnable(
        "the other side takes no invitations",
        "git-annex-p2p-iroh there must be updated",
      );
    case CloseCode.NOT_AUTHENTICATED:
      return new InvitationRefused();
    default:
      return new NotNow(`the connection with the other side ended, ${error.message}`, error);
  }
}

/** Returns the answer if it is of this kind. */
function expected<K extends PairingAnswer["kind"]>(
  answer: PairingAnswer,
  kind: K,
): PairingAnswer & { kind: K } {
  if (answer.kind === kind) return answer as PairingAnswer & { kind: K };
  if (answer.kind === "refused") throw new InvitationRefused();
  if (answer.kind === "failed") throw new InviterFailed(answer.message);
  throw new InviterUnable("the other side answers something else than was asked");
}
