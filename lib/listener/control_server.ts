/**
 * The control server: the running listener's private unix socket, through which processes of the same repository
 * reach peers by connections that are there already. What the two say is in channel.ts and request.ts.
 */

import { Buffer } from "node:buffer";
import { timingSafeEqual } from "node:crypto";
import { abortable, delay } from "../async/abort.ts";
import { closeQuietly, isClosedError } from "../platform/socket_errors.ts";
import { type Duplex, giveUp, StreamError } from "../streams/duplex.ts";
import { Failure } from "../console/failure.ts";
import { laneAddresses } from "../lane/local_addresses.ts";
import type { Repository } from "../repository/repository.ts";
import type { Settings } from "../repository/settings.ts";
import { splice } from "../streams/splice.ts";
import { debug } from "../console/stderr.ts";
import { decodeTicket } from "../repository/ticket.ts";
import { Channel, ChannelError, jsonOf, MessageKind, ProxiedStream } from "../control/channel.ts";
import { PublishedLocator } from "../control/locator.ts";
import type { ConnectionPool, PooledSession } from "./connection_pool.ts";
import type { Request } from "../control/request.ts";
import type { ByteCounts, TrafficMeter } from "./traffic.ts";

/** For a process to say what it wants. */
const REQUEST_LIMIT_MS = 2_000;
const ACCEPT_AGAIN_MS = 250;
const GONE = "the process is gone";

/** What the control server needs. */
export interface ControlServerOptions {
  readonly repository: Repository;
  readonly settings: Settings;
  readonly pool: ConnectionPool;
  readonly meter: TrafficMeter;
  /** What `status` is told. */
  readonly status: () => object;
  /** Ends what goes through it. */
  readonly signal: AbortSignal;
  /** Timeout for a request; tests pass a shorter one. */
  readonly requestTimeoutMs?: number;
}

/** How far a process says it is. */
type Report = ByteCounts & { readonly lane: string | undefined };

/** Answers the processes of a repository. Dispose of it when the listener stops. */
export class ControlServer implements AsyncDisposable {
  #options: ControlServerOptions;
  #locator: PublishedLocator;
  #listener: Deno.UnixListener;
  /** By what the processes were told. */
  #sessions = new Map<string, PooledSession>();

  private constructor(
    options: ControlServerOptions,
    locator: PublishedLocator,
    listener: Deno.UnixListener,
  ) {
    this.#options = options;
    this.#locator = locator;
    this.#listener = listener;
  }

  /** Opens the socket, and says where it is. @throws {RuntimeFolderError} and what the system says. */
  static async open(options: ControlServerOptions): Promise<ControlServer> {
    const locator = await PublishedLocator.prepare(options.repository);
    const listener = Deno.listen({ transport: "unix", path: locator.socketPath });
    const server = new ControlServer(options, locator, listener);
    try {
      await Deno.chmod(locator.socketPath, 0o600);
      await locator.publish(options.settings);
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    server.#run().catch((error) => debug(() => `control: ${error}`)); // the socket is closed
    return server;
  }

  /** Nobody new is let in; what is under way goes on. */
  async [Symbol.asyncDispose](): Promise<void> {
    closeQuietly(this.#listener);
    await this.#locator[Symbol.asyncDispose]();
  }

  async #run(): Promise<void> {
    for (let connection; (connection = await this.#next());) {
      this.#handle(new Channel(connection)).catch((error) => {
        debug(() => `control: ${error}`); // one process's trouble is not another's
      });
    }
  }

  /** Who comes next; undefined when the socket is closed. */
  async #next(): Promise<Deno.UnixConn | undefined> {
    for (;;) {
      try {
        return await this.#listener.accept();
      } catch (error) {
        if (isClosedError(error)) return undefined;
        debug(() => `control: cannot accept: ${error}`); // as where this process has too many files open
        await delay(ACCEPT_AGAIN_MS, this.#options.signal);
      }
    }
  }

  async #handle(channel: Channel): Promise<void> {
    using _ = channel;
    const { signal, requestTimeoutMs = REQUEST_LIMIT_MS } = this.#options;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(requestTimeoutMs)]);
    const request = await abortable(this.#readRequest(channel), limit);
    await channel.send(MessageKind.ACCEPTED);
    try {
      await this.#answer(request, channel);
    } catch (error) {
      if (!(error instanceof Failure)) debug(() => `control: ${error}`);
      // Without a message it is the process's to try.
      const { message, hint, exitStatus } = error instanceof Failure ? error : {};
      await channel.sendJson(MessageKind.FAILED, { message, hint, exitStatus });
    }
  }

  async #readRequest(channel: Channel): Promise<Request> {
    const message = await channel.receive();
    if (message?.kind !== MessageKind.REQUEST) throw new ChannelError("no request");
    const { cookie, want, address, session } = jsonOf(message);
    const shown = Buffer.from(String(cookie)), right = Buffer.from(this.#locator.cookie);
    if (shown.length !== right.length || !timingSafeEqual(shown, right)) {
      throw new ChannelError("somebody who does not know the cookie");
    }
    if (want === "session" && typeof address === "string") return { want, address };
    if (want === "lane" && typeof session === "string") return { want, session };
    if (want === "status") return { want };
    throw new ChannelError("a request that is none");
  }

  async #answer(request: Request, channel: Channel): Promise<void> {
    switch (request.want) {
      case "status":
        return await channel.sendJson(MessageKind.ANSWER, this.#options.status());
      case "session":
        return await this.#openSession(request.address, channel);
      case "lane":
        return await this.#openLane(request.session, channel);
    }
  }

  async #openSession(address: string, channel: Channel): Promise<void> {
    const ticket = decodeTicket(address);
    let report: Report = { sent: 0, received: 0, lane: undefined };
    const stream = new ProxiedStream(channel, {
      gone: GONE,
      report: (message) => report = reportOf(message) ?? report,
    });
    const gone = new AbortController();
    // A process that has said all goes; what it has said is passed on.
    stream.closedError.then((error) => !stream.hasEnded && gone.abort(error));
    const signal = AbortSignal.any([this.#options.signal, gone.signal]);
    using pooled = await this.#options.pool.open(ticket, signal);
    const id = crypto.randomUUID();
    this.#sessions.set(id, pooled);
    using _session = { [Symbol.dispose]: () => void this.#sessions.delete(id) };
    using _live = this.#options.meter.begin({
      key: ticket.publicKey.toHex(),
      isIncoming: false,
      byteCounts: () => report,
      lane: () => report.lane,
    });
    sendClosed(pooled, stream).catch(() => {}); // the process is gone, or has been told by its stream
    await handOver(channel, { session: id }, pooled.stream);
    await splice(stream, pooled.stream, signal);
  }

  async #openLane(id: string, channel: Channel): Promise<void> {
    const pooled = this.#sessions.get(id);
    if (!pooled) throw new StreamError("closed", "the session is over");
    const { mux, session } = await pooled.opened;
    const addresses = laneAddresses(mux.connection, this.#options.settings.bind);
    const lane = await session.openLane(this.#options.signal);
    const stream = new ProxiedStream(channel, { gone: GONE });
    await handOver(channel, { addresses }, lane);
    await splice(stream, lane, this.#options.signal);
  }
}

/** Tells the process when the connection with the peer has ended. */
async function sendClosed({ opened }: PooledSession, stream: ProxiedStream): Promise<void> {
  const { connection } = (await opened).mux;
  const { by } = await connection.closed;
  // What the listener has closed is no orderly end of the peer's.
  const lost = new StreamError("lost", "this repository's listener has given it up");
  await stream.sendClosed(by === "us" ? lost : await connection.closedError);
}

/** Answers that a stream with the peer is there, which is given up if the process is not any more. */
async function handOver(channel: Channel, answer: object, stream: Duplex): Promise<void> {
  try {
    await channel.sendJson(MessageKind.ANSWER, answer);
  } catch (error) {
    giveUp(stream);
    throw error;
  }
}

/** What a process says of how far it is; undefined if that is nothing. */
function reportOf({ sent, received, lane }: Record<string, unknown>): Report | undefined {
  if (!Number.isSafeInteger(sent) || !Number.isSafeInteger(received)) return undefined;
  return {
    sent: sent as number,
    received: received as number,
    lane: typeof lane === "string" ? lane : undefined,
  };
}
