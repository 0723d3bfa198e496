/** A process's end of the control socket: asks the running listener of its repository. Loads next to nothing. */

import { abortable, RunningTimeout } from "../async/abort.ts";
import type { Duplex, StreamError } from "../streams/duplex.ts";
import { Failure, systemReason } from "../console/failure.ts";
import type { LaneAddresses } from "../lane/negotiation.ts";
import { debug } from "../console/stderr.ts";
import { Channel, jsonOf, MessageKind, ProxiedStream } from "./channel.ts";
import type { ControlLocator } from "./locator.ts";
import type { Request } from "./request.ts";

/** A listener that does not begin to answer within this time is not waited for. */
const ACCEPT_LIMIT_MS = 200;
/** To dial, and what goes before; a listener that has begun to answer may still stop to. */
const SESSION_LIMIT_MS = 28_000;
/** Where nothing stands still meanwhile. */
const PATIENT_LIMIT_MS = 5_000;
const GONE = "this repository's listener has ended";

/** The listener cannot do it, and the process is to do it by itself. */
export class ControlUnavailable extends Error {
  override readonly name = "ControlUnavailable";
}

/** A session that goes through the control server. Dispose of it when it is over. */
export interface ProxiedSession extends Disposable {
  /** Not to be used before it is {@linkcode open}. */
  readonly stream: Duplex;
  /**
   * Resolves when the listener has opened it.
   *
   * @throws {ControlUnavailable} if it does not answer, or cannot do it; nothing has been sent to the peer then.
   * @throws {Failure} if the peer cannot be reached, as the listener says; or the signal's reason.
   */
  readonly open: Promise<void>;
  /** Resolves when the connection with the peer, or the listener, has ended, or it does not open. */
  readonly closedError: Promise<StreamError>;
  /** Tells the listener how far it is. */
  report(report: Record<string, unknown>): void;
  /** Resolves when all that was said has been handed over. */
  flush(): Promise<void>;
  /** A stream on which to agree on a lane. */
  openLane(): Promise<{ stream: Duplex; addresses: LaneAddresses } & Disposable>;
}

/** Asks for a session with a peer. @throws {ControlUnavailable} if nobody is there. */
export async function requestSession(
  locator: ControlLocator,
  address: string,
  signal: AbortSignal,
): Promise<ProxiedSession> {
  const { channel, answer } = await sendRequest(locator, { want: "session", address }, signal);
  const open = answer.then(() => {});
  open.catch(() => {}); // told to whoever waits for it
  const stream = new ProxiedStream(channel, { gone: GONE, begins: open });
  return {
    stream,
    open,
    closedError: stream.closedError,
    report(report) {
      // Whoever does not hear it is gone, which the stream tells.
      channel.sendJson(MessageKind.REPORT, report).catch(() => {});
    },
    flush: () => channel.flush(),
    async openLane() {
      const { session } = await answer;
      const lane = await sendRequest(locator, { want: "lane", session: String(session) }, signal);
      const { addresses } = await lane.answer;
      return {
        stream: new ProxiedStream(lane.channel, { gone: GONE }),
        addresses: addresses as LaneAddresses,
        [Symbol.dispose]: () => lane.channel[Symbol.dispose](),
      };
    },
    [Symbol.dispose]: () => channel[Symbol.dispose](),
  };
}

/** What the listener knows. @throws {ControlUnavailable} if it does not answer. */
export async function requestStatus(
  locator: ControlLocator,
  signal: AbortSignal,
): Promise<unknown> {
  const { channel, answer } = await sendRequest(locator, { want: "status" }, signal);
  using _ = channel;
  return await answer;
}

/** A request on its way. */
interface PendingAnswer {
  readonly channel: Channel;
  /** Where it rejects, the channel is closed. */
  readonly answer: Promise<Record<string, unknown>>;
}

/** @throws {ControlUnavailable} if nobody is there. */
async function sendRequest(
  { socketPath, cookie }: ControlLocator,
  request: Request,
  signal: AbortSignal,
): Promise<PendingAnswer> {
  const isSession = request.want === "session";
  const limitMs = isSession ? ACCEPT_LIMIT_MS : PATIENT_LIMIT_MS;
  const acceptLimit = new RunningTimeout(
    limitMs,
    new ControlUnavailable(`no answer within ${limitMs} ms`),
    signal,
  );
  try {
    const channel = await connect(socketPath, acceptLimit.signal);
    return { channel, answer: receiveAnswer({ ...request, cookie }, channel, acceptLimit, signal) };
  } catch (error) {
    acceptLimit[Symbol.dispose]();
    throw error;
  }
}

/** @param acceptLimit For the listener to begin to answer; disposed of here. */
async function receiveAnswer(
  request: Request & Pick<ControlLocator, "cookie">,
  channel: Channel,
  acceptLimit: RunningTimeout,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  using _ = acceptLimit;
  try {
    await abortable(channel.sendJson(MessageKind.REQUEST, request), acceptLimit.signal);
    const accepted = await abortable(channel.receive(), acceptLimit.signal);
    if (accepted?.kind !== MessageKind.ACCEPTED) {
      throw new ControlUnavailable("it does not let this one in");
    }
    acceptLimit[Symbol.dispose]();
    debug(() => "through the running listener");
    return await readAnswerInTime(request, channel, signal);
  } catch (error) {
    channel[Symbol.dispose]();
    signal.throwIfAborted();
    if (error instanceof Failure || error instanceof ControlUnavailable) throw error;
    throw new ControlUnavailable(`it does not answer, ${systemReason(error)}`, { cause: error });
  }
}

/** @throws {Failure} where a session has taken so long that the process is not to begin anew by itself. */
async function readAnswerInTime(
  { want }: Request,
  channel: Channel,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const isSession = want === "session";
  const limit = AbortSignal.timeout(isSession ? SESSION_LIMIT_MS : PATIENT_LIMIT_MS);
  try {
    return await readAnswer(channel, AbortSignal.any([signal, limit]));
  } catch (error) {
    if (!isSession || error !== limit.reason) throw error;
    throw new Failure("this repository's listener has stopped answering", {
      hint: "end git annex remotedaemon, and start it again",
    });
  }
}

async function connect(path: string, signal: AbortSignal): Promise<Channel> {
  try {
    const connecting = Deno.connect({ transport: "unix", path });
    return new Channel(await abortable(connecting, signal, (late) => late.close()));
  } catch (error) {
    if (error instanceof ControlUnavailable) throw error;
    throw new ControlUnavailable(`nobody is there, ${systemReason(error)}`, { cause: error });
  }
}

async function readAnswer(channel: Channel, signal: AbortSignal): Promise<Record<string, unknown>> {
  const message = await abortable(channel.receive(), signal);
  if (message?.kind === MessageKind.ANSWER) return jsonOf(message);
  if (message?.kind !== MessageKind.FAILED) throw new ControlUnavailable("it has ended");
  const { message: text, hint, exitStatus } = jsonOf(message);
  if (typeof text !== "string") throw new ControlUnavailable("it cannot do that");
  throw new Failure(text, {
    ...typeof hint === "string" ? { hint } : {},
    ...typeof exitStatus === "number" ? { exitStatus } : {},
  });
}
