/**
 * The process's end of the control socket: asks the running listener of its repository.
 *
 * It imports little, since git-annex waits for each process to start.
 */

import { abortable, LinkedSignal, RunningTimeout } from "../async/abort.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { debug } from "../console/stderr.ts";
import { type Absence, Away } from "../dial/unreachable.ts";
import type { LaneAddresses } from "../lane/negotiation.ts";
import type { Duplex, StreamError } from "../streams/duplex.ts";
import { Channel, jsonOf, MessageKind, ProxiedStream } from "./channel.ts";
import type { ControlSocket } from "./locator.ts";
import type { Request } from "./request.ts";
import { ConfigChanged, ControlUnavailable } from "./unavailable.ts";

/** Time limits of a request. docs/control-socket.md has their table. */
export interface RequestTimeouts {
  /** Timeout from the connect to ACCEPTED. Only time counts in which this process ran. */
  readonly acceptedMs: number;
  /** Timeout from ACCEPTED to ANSWER; undefined if there is none. */
  readonly answerMs: number | undefined;
}

/**
 * Timeouts for a session. A process does not wait that long for ACCEPTED (connect/open.ts). After ACCEPTED the
 * listener may dial, for which it has 25 s (dial/dialer.ts), and a little more to open the session.
 */
export const SESSION_TIMEOUTS: RequestTimeouts = { acceptedMs: 5_000, answerMs: 28_000 };

/** Timeouts for a lane or for `status`, during which no session stands still. */
export const OTHER_TIMEOUTS: RequestTimeouts = { acceptedMs: 5_000, answerMs: 5_000 };

/** Timeouts for a peer to be there, which may take days. The end of the listener ends the wait. */
export const PEER_TIMEOUTS: RequestTimeouts = { acceptedMs: 5_000, answerMs: undefined };

const TIMEOUT = new Error("no answer in time");
const GONE = "this repository's listener has ended";

/** A session that goes through the listener. Dispose of it when it is over. */
export interface ProxiedSession extends Disposable {
  /** The frames of the session. Await {@linkcode open} first. */
  readonly stream: Duplex;
  /** Resolves when the listener has accepted the request; rejects if it does not. */
  readonly accepted: Promise<void>;
  /**
   * Resolves when the listener has opened the session.
   *
   * @throws {ControlUnavailable} if the listener cannot open it. The peer has then received nothing.
   * @throws {ConfigChanged} if the listener does not confirm the git config.
   * @throws {Away} if the listener believes that the peer is away.
   * @throws {Failure} if the listener says that the peer cannot be reached.
   * @throws The signal's reason.
   */
  readonly open: Promise<void>;
  /** Resolves when the connection with the peer or the listener has ended, or the session fails to open. */
  readonly closedError: Promise<StreamError>;
  /** Tells the listener this process's progress. */
  report(report: Record<string, unknown>): void;
  /** Resolves when the socket has taken all messages, or has failed. */
  flush(): Promise<void>;
  /** Opens a stream for the signaling of a lane. */
  openLane(): Promise<{ stream: Duplex; addresses: LaneAddresses } & Disposable>;
}

/** The part of a request for a session that the process chooses. */
export type SessionOptions = Pick<
  Request & { want: "session" },
  "id" | "isResumed" | "config"
>;

/** Asks for a session with a peer. @throws {ControlUnavailable} if no listener is at the socket. */
export async function requestSession(
  locator: ControlSocket,
  address: string,
  session: SessionOptions,
  signal: AbortSignal,
  timeouts = SESSION_TIMEOUTS,
): Promise<ProxiedSession> {
  const onTimeout = () =>
    new Failure("this repository's listener has stopped answering", {
      hint: "end git annex remotedaemon, and start it again",
    });
  const request = { want: "session", address, ...session } as const;
  const { channel, accepted, answer } = await sendRequest(
    locator,
    request,
    timeouts,
    signal,
    onTimeout,
  );
  const open = answer.then(() => {});
  open.catch(() => {}); // the caller awaits `open`
  const stream = new ProxiedStream(channel, { gone: GONE, begins: open });
  return {
    stream,
    accepted,
    open,
    closedError: stream.closedError,
    report(report) {
      channel.sendJson(MessageKind.REPORT, report).catch(() => {}); // the stream fails with the same
    },
    flush: () => channel.flush(),
    async openLane() {
      const { session } = await answer;
      return await requestLane(locator, String(session), signal);
    },
    [Symbol.dispose]: () => channel[Symbol.dispose](),
  };
}

/** Asks for the signaling stream of a lane. @throws {ControlUnavailable} if the listener cannot open it. */
async function requestLane(
  locator: ControlSocket,
  session: string,
  signal: AbortSignal,
): Promise<{ stream: Duplex; addresses: LaneAddresses } & Disposable> {
  const request = { want: "lane", session } as const;
  const { channel, answer } = await sendRequest(locator, request, OTHER_TIMEOUTS, signal);
  const { addresses } = await answer;
  return {
    stream: new ProxiedStream(channel, { gone: GONE }),
    addresses: addresses as LaneAddresses,
    [Symbol.dispose]: () => channel[Symbol.dispose](),
  };
}

/** Has the listener forget that a peer was away. @throws {ControlUnavailable} if it does not answer. */
export async function requestForget(
  locator: ControlSocket,
  address: string,
  signal: AbortSignal,
): Promise<void> {
  await ask(locator, { want: "forget", address }, OTHER_TIMEOUTS, signal);
}

/**
 * Waits until a peer is there.
 *
 * @param daemon Process id of the remotedaemon that dials the peer.
 * @throws {ControlUnavailable} if the listener lets this process not wait, or no longer.
 */
export async function requestPeer(
  locator: ControlSocket,
  address: string,
  daemon: number,
  signal: AbortSignal,
): Promise<void> {
  await ask(locator, { want: "peer", address, daemon }, PEER_TIMEOUTS, signal);
}

/** Asks for the listener's status. @throws {ControlUnavailable} if it does not answer. */
export async function requestStatus(
  locator: ControlSocket,
  signal: AbortSignal,
  timeouts = OTHER_TIMEOUTS,
): Promise<unknown> {
  return await ask(locator, { want: "status" }, timeouts, signal);
}

/** Sends a request that is over with its answer. @returns The JSON of ANSWER. @throws {ControlUnavailable} */
export async function ask(
  locator: ControlSocket,
  request: Request,
  timeouts: RequestTimeouts,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const { channel, answer } = await sendRequest(locator, request, timeouts, signal);
  using _ = channel;
  return await answer;
}

/** A request that has been sent, or is being sent. */
export interface PendingAnswer {
  readonly channel: Channel;
  /** Resolves when ACCEPTED has come. */
  readonly accepted: Promise<void>;
  /** The JSON of ANSWER. If it rejects, the channel is closed. */
  readonly answer: Promise<Record<string, unknown>>;
}

/**
 * Connects to the listener and sends a request.
 *
 * @param onTimeout Makes the error if ANSWER does not come in time.
 * @throws {ControlUnavailable} if no listener is at the socket.
 */
export async function sendRequest(
  { socketPath, cookie }: ControlSocket,
  request: Request,
  { acceptedMs, answerMs }: RequestTimeouts,
  signal: AbortSignal,
  onTimeout: () => Error = () => new ControlUnavailable(`no answer within ${answerMs} ms`),
): Promise<PendingAnswer> {
  const late = new ControlUnavailable(`no answer within ${acceptedMs} ms`);
  const acceptedTimeout = new RunningTimeout(acceptedMs, late, signal);
  try {
    const channel = await connect(socketPath, acceptedTimeout.signal);
    const { promise: accepted, resolve, reject } = Promise.withResolvers<void>();
    accepted.catch(() => {}); // `answer` rejects, too
    const answer = exchange(channel, resolve);
    answer.catch(reject);
    return { channel, accepted, answer };
  } catch (error) {
    acceptedTimeout[Symbol.dispose]();
    throw error;
  }

  async function exchange(
    channel: Channel,
    onAccepted: () => void,
  ): Promise<Record<string, unknown>> {
    try {
      {
        using timeout = acceptedTimeout;
        const sent = channel.sendJson(MessageKind.REQUEST, { ...request, cookie });
        await abortable(sent, timeout.signal);
        await readAccepted(channel, timeout.signal);
      }
      onAccepted();
      debug(() => "through the running listener");
      const timeout = answerMs === undefined
        ? undefined
        : { milliseconds: answerMs, reason: TIMEOUT };
      using limit = new LinkedSignal([signal], timeout);
      return await readAnswer(channel, limit.signal).catch((error) => {
        throw error === TIMEOUT ? onTimeout() : error;
      });
    } catch (error) {
      channel[Symbol.dispose]();
      signal.throwIfAborted();
      if (error instanceof Failure || error instanceof ControlUnavailable) throw error;
      throw new ControlUnavailable(`it does not answer, ${systemReason(error)}`, { cause: error });
    }
  }
}

async function connect(path: string, signal: AbortSignal): Promise<Channel> {
  try {
    const connecting = Deno.connect({ transport: "unix", path });
    return new Channel(await abortable(connecting, signal, (late) => late.close()));
  } catch (error) {
    if (error instanceof ControlUnavailable) throw error;
    throw new ControlUnavailable(`it does not listen, ${systemReason(error)}`, { cause: error });
  }
}

async function readAccepted(channel: Channel, signal: AbortSignal): Promise<void> {
  const message = await abortable(channel.receive(), signal);
  if (message?.kind === MessageKind.CONFIG_CHANGED) throw new ConfigChanged();
  if (message?.kind !== MessageKind.ACCEPTED) {
    throw new ControlUnavailable("it does not accept this process");
  }
}

async function readAnswer(channel: Channel, signal: AbortSignal): Promise<Record<string, unknown>> {
  const message = await abortable(channel.receive(), signal);
  if (message?.kind === MessageKind.ANSWER) return jsonOf(message);
  if (message?.kind !== MessageKind.FAILED) throw new ControlUnavailable("it has ended");
  const { message: text, hint, exitStatus, away } = jsonOf(message);
  if (typeof text !== "string") throw new ControlUnavailable("it cannot do that");
  const options = {
    ...typeof hint === "string" ? { hint } : {},
    ...typeof exitStatus === "number" ? { exitStatus } : {},
  };
  const absence = absenceOf(away);
  throw absence ? new Away(text, absence, options) : new Failure(text, options);
}

/** Reads since when a peer is away. @returns Undefined if it is not valid. */
function absenceOf(away: unknown): Absence | undefined {
  if (away === null || typeof away !== "object") return undefined;
  const { since, lastSeen } = away as Record<string, unknown>;
  const [first, last] = [new Date(String(since)), new Date(String(lastSeen))];
  if (Number.isNaN(first.getTime())) return undefined;
  return { since: first, lastSeen: Number.isNaN(last.getTime()) ? undefined : last };
}
