/**
 * The control server: the running listener's private unix socket. Through it, processes of the same
 * repository reach peers on connections that the listener keeps.
 *
 * docs/control-socket.md describes the messages, which control/channel.ts and control/request.ts define.
 */

import { Buffer } from "node:buffer";
import { timingSafeEqual } from "node:crypto";
import { abortable, delay, LinkedSignal } from "../async/abort.ts";
import { onResolved } from "../async/on_resolved.ts";
import { closeQuietly, isClosedError } from "../platform/socket_errors.ts";
import { type Duplex, giveUp, StreamError } from "../streams/duplex.ts";
import { Failure } from "../console/failure.ts";
import { Away } from "../dial/unreachable.ts";
import { laneAddresses } from "../lane/local_addresses.ts";
import type { Repository } from "../repository/repository.ts";
import type { Settings } from "../repository/settings.ts";
import { splice } from "../streams/splice.ts";
import { debug, reasonWithHint } from "../console/stderr.ts";
import { decodeTicket } from "../repository/ticket.ts";
import { Channel, ChannelError, jsonOf, MessageKind, ProxiedStream } from "../control/channel.ts";
import { PublishedLocator } from "../control/locator.ts";
import { WatchedConfig } from "./watched_config.ts";
import type { ConnectionPool, PooledSession } from "./connection_pool.ts";
import type { InvitationEvent, Request } from "../control/request.ts";
import { isSessionId } from "../protocol/mux.ts";
import { isLast } from "../control/invitations.ts";
import type { InvitationBook } from "../pairing/invitation_book.ts";
import { isName } from "../pairing/messages.ts";
import type { Presence } from "./presence.ts";
import type { ByteCounts, TrafficMeter } from "./traffic.ts";
import { WaitingDials } from "./waiting_dials.ts";

/** Timeout from the accept to REQUEST, which a process sends at once. A busy machine may delay it. */
const REQUEST_TIMEOUT_MS = 2_000;
/** Maximum length of REQUEST, read before the cookie is checked. An address has at most 4 KiB. */
const MAX_REQUEST_BYTES = 8 * 1024;
/**
 * Maximum number of connections. A session takes one, and one more for its lane. Half of 1024 file
 * descriptors, which many systems allow, remain for peers and for git-annex's sockets.
 */
const MAX_CONNECTIONS = 512;
/** Interval between attempts to accept while the process has too many open files. */
const RETRY_ACCEPT_MS = 250;
/**
 * Interval between looks whether the socket and its locator are still there. The system removes the runtime
 * folder when the user logs out, and processes must be served again within 30 s.
 */
const LOOK_INTERVAL_MS = 10_000;
const GONE = "the process is gone";

/** What the control server needs. */
export interface ControlServerOptions {
  readonly repository: Repository;
  readonly settings: Settings;
  readonly pool: ConnectionPool;
  readonly presence: Pick<Presence, "forget" | "untilHere">;
  readonly meter: TrafficMeter;
  /** The invitations of the repository. */
  readonly invitations: Pick<InvitationBook, "add" | "list" | "withdraw" | "withdrawHash">;
  /** Returns the answer to `status`. */
  readonly status: () => object;
  /** Ends all sessions that go through the server. */
  readonly signal: AbortSignal;
  /** Called with a line for the log. */
  readonly report: (message: string) => void;
  /** Tests pass shorter times. */
  readonly limits?: Partial<ControlServerLimits>;
}

/** Time limits of a control server. */
export interface ControlServerLimits {
  readonly requestTimeoutMs: number;
  readonly lookIntervalMs: number;
}

/** The progress that a process reports. */
type Report = ByteCounts & { readonly lane: string | undefined };

/** Answers the processes of a repository. Dispose of it when the listener stops. */
export class ControlServer implements AsyncDisposable {
  #options: ControlServerOptions;
  #locator: PublishedLocator;
  #listener: Deno.UnixListener | undefined;
  #config: WatchedConfig;
  #stopped = new AbortController();
  #keeping: Promise<void> = Promise.resolve();
  /** Connections of processes that are open. */
  #connections = 0;
  /** Open sessions, by the id in ANSWER. */
  #sessions = new Map<string, PooledSession>();
  #waiting: WaitingDials;

  private constructor(options: ControlServerOptions) {
    this.#options = options;
    this.#waiting = new WaitingDials(options.presence);
    this.#locator = new PublishedLocator(options.repository);
    this.#config = new WatchedConfig(options.repository, async () => {
      // A later listener's locator is left alone.
      if (this.#locator.isPresent()) await this.#publish();
    });
  }

  /**
   * Opens the socket and publishes the locator. If that is not possible, it reports why and tries again from
   * time to time. Until then, processes go standalone.
   */
  static async open(options: ControlServerOptions): Promise<ControlServer> {
    const server = new ControlServer(options);
    await server.#config.read();
    try {
      await server.#open();
    } catch (error) {
      options.report(`no connections are kept: ${reasonWithHint(error)}`);
    }
    server.#keeping = server.#keep();
    return server;
  }

  /** Accepts no further connection, and ends the wait for peers. Sessions go on. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort(new Error("the listener stops"));
    await Promise.all([this.#keeping, this.#config.settled]);
    if (this.#listener) closeQuietly(this.#listener);
    await this.#locator[Symbol.asyncDispose]();
  }

  async #open(): Promise<void> {
    const path = await this.#locator.chooseSocketPath();
    const listener = this.#listener = Deno.listen({ transport: "unix", path });
    this.#run(listener).catch((error) => debug(() => `control: ${error}`)); // the socket is closed
    await Deno.chmod(path, 0o600);
    await this.#publish();
  }

  async #publish(): Promise<void> {
    await this.#locator.publish(this.#options.settings, this.#config.known);
  }

  /** Restores what a clean-up has removed: the file alone, or the socket and the file. */
  async #keep(): Promise<void> {
    const { lookIntervalMs = LOOK_INTERVAL_MS } = this.#options.limits ?? {};
    while (!this.#stopped.signal.aborted) {
      await delay(lookIntervalMs, this.#stopped.signal).catch(() => {}); // the loop ends
      if (this.#stopped.signal.aborted) return;
      try {
        await this.#restore();
      } catch (error) {
        debug(() => `control: ${error}`); // the next look tries again
      }
    }
  }

  async #restore(): Promise<void> {
    const { missing } = this.#locator;
    if (missing === "nothing") return;
    debug(() => `control: the ${missing} is missing`);
    if (missing === "file") return await this.#publish();
    if (this.#listener) closeQuietly(this.#listener);
    await this.#open();
  }

  async #run(listener: Deno.UnixListener): Promise<void> {
    for (let connection; (connection = await this.#accept(listener));) {
      if (this.#connections >= MAX_CONNECTIONS) {
        debug(() => `control: more than ${MAX_CONNECTIONS} connections`);
        connection.close(); // the process goes standalone
        continue;
      }
      this.#connections++;
      this.#handle(new Channel(connection))
        .catch((error) => debug(() => `control: ${error}`)) // others go on
        .finally(() => this.#connections--);
    }
  }

  /** Accepts a connection. @returns Undefined if the socket is closed. */
  async #accept(listener: Deno.UnixListener): Promise<Deno.UnixConn | undefined> {
    for (;;) {
      try {
        return await listener.accept();
      } catch (error) {
        if (isClosedError(error)) return undefined;
        debug(() => `control: cannot accept: ${error}`); // such as too many open files
        await delay(RETRY_ACCEPT_MS, this.#options.signal);
      }
    }
  }

  async #handle(channel: Channel): Promise<void> {
    using _ = channel;
    const request = await this.#receiveRequest(channel);
    if (request.want === "session" && !this.#config.holds(request.config)) {
      return await channel.send(MessageKind.CONFIG_CHANGED);
    }
    await channel.send(MessageKind.ACCEPTED);
    try {
      await this.#answer(request, channel);
    } catch (error) {
      if (!(error instanceof Failure)) debug(() => `control: ${error}`);
      // Without a message, the process goes standalone.
      const { message, hint, exitStatus } = error instanceof Failure ? error : {};
      const away = error instanceof Away ? error.absence : undefined;
      await channel.sendJson(MessageKind.FAILED, { message, hint, exitStatus, away });
    }
  }

  async #receiveRequest(channel: Channel): Promise<Request> {
    const { signal, limits: { requestTimeoutMs = REQUEST_TIMEOUT_MS } = {} } = this.#options;
    using limit = new LinkedSignal([signal], { milliseconds: requestTimeoutMs });
    return await abortable(this.#readRequest(channel), limit.signal);
  }

  async #readRequest(channel: Channel): Promise<Request> {
    const message = await channel.receive(MAX_REQUEST_BYTES);
    if (message?.kind !== MessageKind.REQUEST) throw new ChannelError("no request");
    const { cookie, ...request } = jsonOf(message);
    const given = Buffer.from(String(cookie)), expected = Buffer.from(this.#locator.cookie);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      throw new ChannelError("a wrong cookie");
    }
    const valid = requestOf(request);
    if (!valid) throw new ChannelError("invalid request");
    return valid;
  }

  async #answer(request: Request, channel: Channel): Promise<void> {
    switch (request.want) {
      case "status":
        return await channel.sendJson(MessageKind.ANSWER, this.#options.status());
      case "session":
        return await this.#openSession(request, channel);
      case "lane":
        return await this.#openLane(request.session, channel);
      case "forget":
        this.#options.presence.forget(decodeTicket(request.address).publicKey.toHex());
        return await channel.sendJson(MessageKind.ANSWER, {});
      case "peer":
        return await this.#awaitPeer(request, channel);
      case "invite":
        return await this.#invite(request, channel);
      case "invitations":
        return await channel.sendJson(MessageKind.ANSWER, {
          invitations: this.#options.invitations.list(),
        });
      case "withdraw":
        return await channel.sendJson(MessageKind.ANSWER, {
          ids: await this.#options.invitations.withdraw(request.ids),
        });
    }
  }

  /** Adds an invitation, and tells the process what happens to it. When the process is gone, withdraws it. */
  async #invite(
    { want: _, ...invitation }: Request & { want: "invite" },
    channel: Channel,
  ): Promise<void> {
    const { invitations, settings, signal } = this.#options;
    if (!settings.lane) {
      throw new Failure("with the setting lane = false, no peer can use an invitation", {
        hint: "remove the setting, or pair with git annex p2p --pair",
      });
    }
    if (invitation.isDetached) {
      const added = await invitations.add(invitation);
      return await channel.sendJson(MessageKind.ANSWER, { invitation: added });
    }
    const over = Promise.withResolvers<void>();
    const answered = Promise.withResolvers<void>();
    const tell = async (event: InvitationEvent) => {
      await answered.promise; // which comes first
      await channel.sendJson(MessageKind.EVENT, event);
      if (isLast(event)) over.resolve();
    };
    const added = await invitations.add(invitation, (event) => {
      tell(event).catch(over.resolve); // the process is gone
    });
    try {
      await channel.sendJson(MessageKind.ANSWER, { invitation: added });
      answered.resolve();
      const gone = channel.receive().catch(() => {}); // it sends nothing further
      await abortable(Promise.race([over.promise, gone]), signal);
    } finally {
      answered.resolve();
      await invitations.withdrawHash(invitation.hash);
    }
  }

  async #openSession(
    { address, ...request }: Request & { want: "session" },
    channel: Channel,
  ): Promise<void> {
    const ticket = decodeTicket(address);
    let report: Report = { sent: 0, received: 0, lane: undefined };
    const stream = new ProxiedStream(channel, {
      gone: GONE,
      report: (message) => report = reportOf(message) ?? report,
    });
    const gone = new AbortController();
    // A process may exit after END, and the listener then delivers what it has sent.
    stream.closedError.then((error) => !stream.hasEnded && gone.abort(error));
    using until = new LinkedSignal([this.#options.signal, gone.signal]);
    const { signal } = until;
    using pooled = await this.#options.pool.open(ticket, request, signal);
    const id = crypto.randomUUID();
    this.#sessions.set(id, pooled);
    using _session = { [Symbol.dispose]: () => void this.#sessions.delete(id) };
    using _live = this.#options.meter.begin({
      key: ticket.publicKey.toHex(),
      isIncoming: false,
      byteCounts: () => report,
      lane: () => report.lane,
    });
    using _closed = tellClosed(pooled, stream);
    await handOver(channel, { session: id }, pooled.stream);
    await splice(stream, pooled.stream, signal);
  }

  async #awaitPeer(
    { address, daemon }: Request & { want: "peer" },
    channel: Channel,
  ): Promise<void> {
    const key = decodeTicket(address).publicKey.toHex(), gone = new AbortController();
    // The process sends nothing more, so that whatever comes is its end.
    channel.receive().catch(() => {}).finally(() => gone.abort(new Error(GONE)));
    using until = new LinkedSignal([this.#stopped.signal, gone.signal]);
    await this.#waiting.wait(daemon, key, until.signal);
    await channel.sendJson(MessageKind.ANSWER, {});
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

/** Tells the process when the connection with the peer has ended, until it is disposed of. */
function tellClosed({ opened }: PooledSession, stream: ProxiedStream): Disposable {
  const resources = new DisposableStack();
  opened.then(({ mux: { connection } }) => {
    if (resources.disposed) return;
    resources.use(onResolved(connection.closed, async ({ by }) => {
      // The listener, and not the peer, has closed it: for the process that is no orderly end.
      const lost = new StreamError("lost", "this repository's listener has given it up");
      const error = by === "us" ? lost : await connection.closedError;
      await stream.sendClosed(error).catch(() => {}); // the process is gone
    }));
  }, () => {}); // the stream fails, too
  return resources;
}

/** Sends the answer for a stream with the peer, and gives up the stream if the process is gone. */
async function handOver(channel: Channel, answer: object, stream: Duplex): Promise<void> {
  try {
    await channel.sendJson(MessageKind.ANSWER, answer);
  } catch (error) {
    giveUp(stream);
    throw error;
  }
}

/** Checks a request without its cookie. @returns Undefined if it is not valid. */
function requestOf(
  { want, address, session, id, isResumed, config, ...others }: Record<string, unknown>,
): Request | undefined {
  switch (want) {
    case "session": {
      if (typeof address !== "string" || !isSessionId(String(id))) return undefined;
      const trusted = typeof config === "string" ? config : undefined;
      return { want, address, id: String(id), isResumed: isResumed === true, config: trusted };
    }
    case "lane":
      return typeof session === "string" ? { want, session } : undefined;
    case "forget":
      return typeof address === "string" ? { want, address } : undefined;
    case "peer":
      return typeof address === "string" && isProcessId(others.daemon)
        ? { want, address, daemon: others.daemon }
        : undefined;
    case "invite": {
      const { hash, name, validMs, isDetached } = others;
      const isValid = typeof hash === "string" && /^[0-9a-f]{64}$/.test(hash) &&
        typeof validMs === "number" && (name === undefined || isName(name));
      if (!isValid) return undefined;
      return {
        want,
        hash,
        name: name as string | undefined,
        validMs,
        isDetached: isDetached === true,
      };
    }
    case "withdraw": {
      const { ids } = others;
      const isList = Array.isArray(ids) && ids.every((id) => typeof id === "string");
      return isList || ids === "all" ? { want, ids } : undefined;
    }
    case "status":
    case "invitations":
      return { want };
    default:
      return undefined;
  }
}

function isProcessId(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

/** Reads a REPORT. @returns Undefined if it is not valid. */
function reportOf({ sent, received, lane }: Record<string, unknown>): Report | undefined {
  if (!Number.isSafeInteger(sent) || !Number.isSafeInteger(received)) return undefined;
  return {
    sent: sent as number,
    received: received as number,
    lane: typeof lane === "string" ? lane : undefined,
  };
}
