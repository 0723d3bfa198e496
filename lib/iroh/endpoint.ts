/**
 * The only module that knows iroh-js (@number0/iroh): endpoints, connections and streams in this
 * program's own terms. Importing it loads the native addon.
 *
 * What iroh-js leaves open and is settled here: no call of it can be cancelled, so waits are raced
 * against signals and late results closed; its errors are debug texts, turned into types; it passes
 * bytes as arrays of numbers (bytes.ts); a peer that has vanished is noticed by the lack of packets. Never used,
 * since they can abort the process: `watch*`, `setLogLevel`, and a builder after its `bind()`.
 */

import { isIP } from "node:net";
import type * as Iroh from "@number0/iroh";
import { abortable, delay } from "../async/abort.ts";
import { type Duplex, StreamError } from "../streams/duplex.ts";
import { Failure, systemReason } from "../console/failure.ts";
import { IrohBytes } from "./bytes.ts";
import type { RelaySetting } from "../repository/settings.ts";
import { socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { debug, printable } from "../console/stderr.ts";

// Where RUST_BACKTRACE is set, every error of iroh's would otherwise look up its place in the source,
// which takes 25 MiB and tens of milliseconds (std::backtrace says which variable goes first).
Deno.env.set("RUST_LIB_BACKTRACE", "0");

// The compiled program has the addon alone, in a form of its own (tasks/compile.ts).
const iroh = Deno.build.standalone
  ? await (await import("./addon.ts")).loadAddon() as typeof Iroh
  : (await import("@number0/iroh")).default;

/** The form of bytes in the version at hand. */
const BYTES = new IrohBytes((bytes) => iroh.SecretKey.fromBytes(bytes));
/** Most bytes in one call of iroh-js: long enough to be cheap, short enough to share the thread. */
const CALL_BYTES = 32 * 1024, NATIVE_CALL_BYTES = 256 * 1024;
/**
 * A connection on which nothing has come for this long is lost. Both ends of a live one send
 * something every 5 s (iroh's heartbeat); iroh itself gives up after 30 s.
 */
const SILENCE_LIMIT_MS = 25_000;
const SILENCE_CHECK_MS = 2_500;
/** How long to wait for a close to leave the machine; it takes a millisecond or two. */
const CLOSE_SENT_LIMIT_MS = 100;
/** Port for address discovery at relays, iroh-relay's default. It needs TLS, so not at http relays. */
const RELAY_QUIC_PORT = 7842;

/** How an error says that it is the connection's (noq's `ConnectionError`), not the stream's. */
const CONNECTION_CLOSED = /^(ConnectionLost\(|(application|connection|locally)Closed|timedOut)/i;

/** How an endpoint is made. */
export interface EndpointOptions {
  /** Ed25519 secret key, 32 bytes; a fresh one when not given. */
  readonly secretKey?: Uint8Array;
  /** Protocols to accept; none for an endpoint that only dials. */
  readonly alpns?: readonly string[];
  readonly relay: RelaySetting;
  /** Publish to, and look up at, iroh's public DNS. */
  readonly lookup: boolean;
  /** Address and port of the UDP socket, as `1.2.3.4:5` or `[::1]:5`. */
  readonly bind?: string | undefined;
  /** IP address, with a port or without, at which others see it, beside those iroh finds out. */
  readonly external?: string | undefined;
}

/** Where to dial. */
export interface PeerAddress {
  /** Ed25519 public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly relay?: string | undefined;
  readonly direct: readonly string[];
}

/** The UDP socket could not be opened. */
export class BindError extends Failure {
  override readonly name = "BindError";
}

/** A dial did not get through. */
export class DialError extends Error {
  override readonly name = "DialError";

  constructor(
    readonly kind:
      | "no answer"
      | "refused"
      | "no way"
      | "bad key"
      | "other protocol"
      /** Somebody answers there, and it is not the peer. */
      | "no handshake",
    detail: string,
  ) {
    super(detail);
  }
}

/** Why a connection is no more. */
export type ConnectionEnd =
  /** The peer closed it; code 0 is the orderly end. The reason is printable. */
  | { readonly by: "peer"; readonly code: bigint; readonly reason: string }
  /** The peer no longer knows this connection: its close was lost, or its process was restarted. */
  | { readonly by: "reset" }
  /** The peer has vanished. */
  | { readonly by: "loss"; readonly detail: string }
  | { readonly by: "us" };

/** An iroh endpoint: a key pair and a UDP socket. Whoever binds it closes it. */
export class Endpoint implements AsyncDisposable {
  #endpoint: Iroh.Endpoint;
  private constructor(endpoint: Iroh.Endpoint) {
    this.#endpoint = endpoint;
  }

  /** @throws {BindError} if the UDP socket cannot be had. */
  static async bind(options: EndpointOptions): Promise<Endpoint> {
    const builder = iroh.Endpoint.builder();
    if (options.lookup) builder.applyN0();
    else builder.applyMinimal();
    builder.relayMode(relayMode(options.relay));
    if (options.secretKey) builder.secretKey(BYTES.to(options.secretKey));
    builder.alpns((options.alpns ?? []).map(alpnBytes));
    let endpoint: Endpoint;
    try {
      if (options.bind) builder.bindAddr(options.bind);
      endpoint = new Endpoint(await builder.bind());
    } catch (error) {
      const where = options.bind ?? "any port";
      throw new BindError(`cannot open a UDP socket on ${where}, ${irohReason(error)}`, {
        hint: "is another program using it? the setting p2p-iroh.bind says which to use",
        cause: error,
      });
    }
    if (options.external) await endpoint.addExternalAddress(options.external);
    return endpoint;
  }

  /** Its public key, 32 bytes. */
  get publicKey(): Uint8Array {
    return BYTES.from(this.#endpoint.id().toBytes());
  }

  /** Sockets this endpoint is bound to, as `0.0.0.0:5` or `[::]:5`. */
  boundSockets(): string[] {
    return this.#endpoint.boundSockets();
  }

  /** The relay by which it can be reached at present, and the socket addresses it knows of itself. */
  addresses(): { relay: string | undefined; direct: string[] } {
    const address = this.#endpoint.addr();
    return { relay: address.relayUrl() ?? undefined, direct: address.directAddresses() };
  }

  /**
   * Adds an address at which others see it, for peers to try.
   *
   * @param address An IP address, with a port or with that of its own socket.
   */
  async addExternalAddress(address: string): Promise<void> {
    const version = isIP(address);
    const bound = this.boundSockets().find((socket) => socket.startsWith("[") === (version === 6));
    if (version !== 0 && bound === undefined) {
      return debug(() => `there is no socket for the external address ${address}`);
    }
    const full = version === 0 ? address : socketAddress(address, splitSocketAddress(bound!).port);
    await this.#endpoint.addExternalAddr(full);
  }

  /** From now on it may be at this relay, too. */
  async addRelay(url: string): Promise<void> {
    await this.#endpoint.insertRelay(relayConfig(url));
  }

  /** From now on it is at another relay, if there is one. What goes on through this one goes on. */
  async removeRelay(url: string): Promise<void> {
    await this.#endpoint.removeRelay(url);
  }

  /**
   * Connects to a peer.
   *
   * @param signal Gives up; iroh itself does so after 30 s.
   * @throws {DialError} if the peer cannot be reached, or the signal's reason.
   */
  async connect(peer: PeerAddress, alpn: string, signal: AbortSignal): Promise<Connection> {
    signal.throwIfAborted();
    const address = endpointAddr(peer);
    const dialing = this.#endpoint.connect(address, alpnBytes(alpn)).then(
      (connection) => new Connection(connection, this),
      (error) => {
        throw dialError(error);
      },
    );
    return await abortable(dialing, signal, (late) => late.close(0n, "too late"));
  }

  /** Connections that others want, as they come, until the endpoint is closed. */
  async *incoming(): AsyncGenerator<Incoming> {
    for (;;) {
      const next = await this.#endpoint.acceptNext();
      if (!next) return;
      yield new Incoming(next, this);
    }
  }

  /**
   * Closes every connection and the socket. Takes a second or so where a connection was just
   * closed; a process that ends needs not wait for it.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#endpoint.close();
  }
}

/** A connection somebody wants. Nothing has been answered yet. */
export class Incoming {
  #incoming: Iroh.Incoming;
  #endpoint: Endpoint;
  constructor(incoming: Iroh.Incoming, endpoint: Endpoint) {
    this.#incoming = incoming;
    this.#endpoint = endpoint;
  }

  /** Where it comes from: an IP address without port, or a relay's URL. */
  async source(): Promise<string> {
    const from = await this.#incoming.remoteAddr();
    return from.kind === "ip" ? from.addr!.replace(/:\d+$/, "") : from.addr ?? from.kind;
  }

  /** Says no at the least cost. */
  async refuse(): Promise<void> {
    await this.#incoming.refuse();
  }

  /** @throws {StreamError} if the handshake fails, or the signal's reason. */
  async accept(signal: AbortSignal): Promise<Connection> {
    const handshake = (async () => {
      const accepting = await this.#incoming.accept();
      return new Connection(await accepting.connect(), this.#endpoint);
    })();
    try {
      return await abortable(handshake, signal, (late) => late.close(0n, "too late"));
    } catch (error) {
      signal.throwIfAborted();
      throw new StreamError("lost", irohReason(error), { cause: error });
    }
  }
}

/** A connection with one peer, who has proved its key. */
export class Connection {
  /** Settles, without ever rejecting, when the connection is no more. */
  readonly closed: Promise<ConnectionEnd>;
  /** The same, as the error that reads and writes give from then on. */
  readonly closedError: Promise<StreamError>;
  #connection: Iroh.Connection;
  #bytes: IrohBytes;
  #callBytes: number;
  /** What to call for each direction that is being written, when the connection ends. */
  #writing = new Set<(end: ConnectionEnd) => void>();

  /**
   * @param endpoint It ends when it is garbage-collected, and its connections with it.
   * @param bytes The form in which `connection` passes them.
   */
  constructor(connection: Iroh.Connection, readonly endpoint: Endpoint, bytes = BYTES) {
    this.#connection = connection;
    this.#bytes = bytes;
    this.#callBytes = bytes.isNative ? NATIVE_CALL_BYTES : CALL_BYTES;
    const { promise: lost, resolve: lose } = Promise.withResolvers<ConnectionEnd>();
    this.closed = Promise.race([connection.closed().then(connectionEnd), lost]);
    const watch = watchSilence(() => connection.stats().udpRxDatagrams, () => {
      lose({ by: "loss", detail: `nothing came for ${SILENCE_LIMIT_MS / 1000} s` });
      this.close(0n, "silence");
    });
    this.closedError = this.closed.then(endError);
    this.closed.then((end) => {
      watch[Symbol.dispose]();
      for (const onClosed of this.#writing) onClosed(end);
    });
  }

  /** The peer's public key, 32 bytes. */
  get publicKey(): Uint8Array {
    return this.#bytes.from(this.#connection.remoteId().toBytes());
  }

  /** The protocol that both ends speak. */
  get alpn(): string {
    return new TextDecoder().decode(this.#bytes.from(this.#connection.alpn()));
  }

  /** The path in use: `direct 1.2.3.4:5`, `relay https://…`, or `no path`. */
  get path(): string {
    const path = this.#connection.paths().find((path) => path.isSelected);
    if (!path) return "no path";
    return `${path.isIp ? "direct" : "relay"} ${printable(path.remoteAddr, 200)}`;
  }

  /** Time for a packet there and back on the path in use, in milliseconds, as far as it is known. */
  get roundTripMs(): number | undefined {
    const rtt = this.#connection.paths().find((path) => path.isSelected)?.rttMs;
    return rtt === undefined ? undefined : Number(rtt);
  }

  /** Bytes in UDP packets received so far. */
  get packetBytesReceived(): number {
    return Number(this.#connection.stats().udpRxBytes);
  }

  /** UDP packets received so far. */
  get packetsReceived(): number {
    return Number(this.#connection.stats().udpRxDatagrams);
  }

  /** Bytes in UDP packets sent and received so far, acknowledgements and signs of life included. */
  get packetBytes(): number {
    const { udpTxBytes, udpRxBytes } = this.#connection.stats();
    return Number(udpTxBytes) + Number(udpRxBytes);
  }

  /** Opens a stream. The peer does not see it before the first write. */
  async open(): Promise<Duplex> {
    return this.#duplex(await this.#orEnd(this.#connection.openBi()));
  }

  /** The next stream that the peer opens. Once given up, no other call gets that stream. */
  async accept(signal: AbortSignal): Promise<Duplex> {
    return this.#duplex(await abortable(this.#orEnd(this.#connection.acceptBi()), signal));
  }

  /**
   * Ends the connection. What the peer's program has not been sent yet is lost, so both
   * directions must be through, unless code and reason say otherwise.
   */
  close(code: bigint, reason: string): void {
    this.#connection.close(code, this.#bytes.to(new TextEncoder().encode(reason)));
  }

  /** Like {@linkcode close}, and waits until the peer has been told, as far as that can be known. */
  async closeAndSend(code: bigint, reason: string): Promise<void> {
    let isClosed = false; // in another way: then nobody is told any more
    this.closed.then(({ by }) => isClosed = by !== "us");
    const before = this.#connection.stats().udpTxDatagrams;
    this.close(code, reason);
    const limit = AbortSignal.timeout(CLOSE_SENT_LIMIT_MS);
    const isSent = () => this.#connection.stats().udpTxDatagrams !== before;
    while (!limit.aborted && !isClosed && !isSent()) {
      // Time over: the packet could not be sent now, and the peer will notice by itself.
      await delay(1, limit).catch(() => {});
    }
  }

  async #orEnd<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      throw await this.#streamError(error);
    }
  }

  /** What went wrong with a stream, in our terms. */
  async #streamError(error: unknown): Promise<StreamError> {
    const text = error instanceof Error ? error.message : String(error);
    const aborted = /^(?:Reset|Stopped)\((\d+)/.exec(text);
    if (aborted && BigInt(aborted[1]!) > 0n) {
      const code = BigInt(aborted[1]!);
      return new StreamError("refused", `no reason given (code ${code})`, { cause: error, code });
    }
    if (aborted) return new StreamError("reset", "the peer gave up the stream", { cause: error });
    if (!CONNECTION_CLOSED.test(text)) {
      return new StreamError("lost", irohReason(error), { cause: error });
    }
    return endError(await this.closed);
  }

  #duplex(stream: Iroh.BiStream): Duplex {
    return { readable: this.#readable(stream.recv), writable: this.#writable(stream.send) };
  }

  #readable(receive: Iroh.RecvStream): ReadableStream<Uint8Array<ArrayBuffer>> {
    return new ReadableStream({
      type: "bytes",
      pull: async (controller) => {
        let chunk: Uint8Array<ArrayBuffer>;
        try {
          chunk = this.#bytes.from(await receive.read(this.#callBytes));
        } catch (error) {
          throw await this.#streamError(error);
        }
        if (chunk.length > 0) return controller.enqueue(chunk);
        controller.close();
        controller.byobRequest?.respond(0); // or a read with a buffer of its own never ends
      },
      cancel: (reason) => {
        // Not awaited: iroh-js holds the stream for a read that is under way.
        receive.stop(codeOf(reason)).catch(() => {}); // the connection is gone, and the stream with it
      },
    });
  }

  #writable(send: Iroh.SendStream): WritableStream<Uint8Array> {
    let done = () => {};
    // Used again and again: it takes eight times the memory of the bytes, and iroh-js has read it when
    // the call returns.
    const memory: number[] = [];
    return new WritableStream({
      start: (controller) => {
        const onClosed = (end: ConnectionEnd) => controller.error(endError(end));
        this.#writing.add(onClosed);
        done = () => void this.#writing.delete(onClosed);
      },
      write: async (chunk) => {
        try {
          for (let i = 0; i < chunk.length; i += this.#callBytes) {
            const part = chunk.subarray(i, i + this.#callBytes);
            await this.#orEnd(send.writeAll(this.#bytes.to(part, memory)));
          }
        } catch (error) {
          done();
          send.reset(0n).catch(() => {}); // the connection is gone, and the stream with it
          throw error;
        }
      },
      close: async () => {
        try {
          await this.#orEnd(send.finish());
          await this.#orEnd(send.stopped()); // the peer's side of QUIC has everything
        } catch (error) {
          // An orderly end from a peer that had no need to wait for more: as good as "received".
          if (!(error instanceof StreamError) || error.kind !== "closed") throw error;
        } finally {
          done();
        }
      },
      abort: (reason) => {
        done();
        send.reset(codeOf(reason)).catch(() => {}); // the connection is gone, and the stream with it
      },
    });
  }
}

/** A connection of which it is to be noticed when nothing comes any more. */
interface Watched {
  readonly received: () => number | bigint;
  readonly silent: () => void;
  last: number | bigint;
  checks: number;
}

/** All of them, looked at by one timer: a listener may have many that do nothing. */
const watched = new Set<Watched>();
let watching: ReturnType<typeof setInterval> | undefined;

/** Calls `silent` when `received` has been the same for {@linkcode SILENCE_LIMIT_MS}. */
function watchSilence(received: () => number | bigint, silent: () => void): Disposable {
  const connection = { received, silent, last: -1, checks: 0 };
  watched.add(connection);
  watching ??= setInterval(lookForSilence, SILENCE_CHECK_MS);
  return {
    [Symbol.dispose]() {
      watched.delete(connection);
      if (watched.size > 0) return;
      clearInterval(watching);
      watching = undefined;
    },
  };
}

function lookForSilence(): void {
  for (const connection of watched) {
    const now = connection.received();
    // Counted in checks rather than by the clock, so that a machine that slept is no silence.
    connection.checks = now === connection.last ? connection.checks + 1 : 0;
    connection.last = now;
    if (connection.checks * SILENCE_CHECK_MS >= SILENCE_LIMIT_MS) connection.silent();
  }
}

/** What to tell the peer of a stream that is given up for this reason. */
function codeOf(reason: unknown): bigint {
  return reason instanceof StreamError ? reason.code ?? 0n : 0n;
}

/** The error that reads and writes give after the connection has ended. */
function endError(end: ConnectionEnd): StreamError {
  switch (end.by) {
    case "us":
      return new StreamError("closed", "the connection was closed on this side");
    case "reset":
      return new StreamError("reset", "the peer no longer knows this connection");
    case "loss":
      return new StreamError("lost", end.detail);
    case "peer":
      return end.code === 0n
        ? new StreamError("closed", "the peer closed the connection")
        : new StreamError("refused", `${end.reason || "no reason given"} (code ${end.code})`, {
          code: end.code,
        });
  }
}

/** Reads iroh's words for the end of a connection (noq's `ConnectionError` as text). */
function connectionEnd(text: string): ConnectionEnd {
  if (text === "closed") return { by: "us" };
  if (text === "reset by peer") return { by: "reset" };
  const byPeer = /^closed by peer: (?:([^]*) \(code (\d+)\)|(\d+))$/.exec(text);
  if (!byPeer) return { by: "loss", detail: printable(text, 200) };
  return {
    by: "peer",
    code: BigInt(byPeer[2] ?? byPeer[3]!),
    reason: printable(byPeer[1] ?? "", 200),
  };
}

function endpointAddr(peer: PeerAddress): Iroh.EndpointAddr {
  let id: Iroh.EndpointId;
  try {
    id = iroh.EndpointId.fromBytes(BYTES.to(peer.publicKey));
  } catch (error) {
    throw new DialError("bad key", irohReason(error));
  }
  try {
    return new iroh.EndpointAddr(id, peer.relay, [...peer.direct]);
  } catch (error) {
    throw new DialError("no way", irohReason(error));
  }
}

function dialError(error: unknown): DialError {
  const text = error instanceof Error ? error.message : String(error);
  if (/valid public key/.test(text)) return new DialError("bad key", "it is not a valid key");
  if (/error 120\b/.test(text)) { // TLS alert no_application_protocol (RFC 7301, section 3.2)
    return new DialError("other protocol", "what answers there speaks another protocol");
  }
  if (/TimedOut|timed out/.test(text)) return new DialError("no answer", "no answer");
  if (/CONNECTION_REFUSED|refused/.test(text)) {
    return new DialError("refused", "the peer takes no more connections now");
  }
  if (/[Nn]o ?[Aa]ddress|AddressLookup|NoResults/.test(text)) {
    return new DialError("no way", "its address is not known there");
  }
  if (/invalid peer certificate/.test(text)) { // in which iroh has the key
    return new DialError("no handshake", "what answers there does not have its key");
  }
  return new DialError("no answer", irohReason(error));
}

/** The root cause in an error of iroh-js: lines of causes, each with its place in the source, a backtrace. */
function irohReason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const causes = text.split("\n\nStack backtrace", 1)[0]!.trim().split("\n");
  const cause = causes.at(-1)!.trim().replace(/ \(\/\S+:\d+:\d+\)$/, "");
  return printable(systemReason(cause), 200);
}

function relayMode(setting: RelaySetting): Iroh.RelayMode {
  switch (setting.kind) {
    case "n0":
      return iroh.RelayMode.defaultMode();
    case "none":
      return iroh.RelayMode.disabled();
    case "custom": {
      const relays = iroh.RelayMap.empty();
      for (const url of setting.urls) relays.insert(relayConfig(url));
      return iroh.RelayMode.custom(relays);
    }
  }
}

function relayConfig(url: string): Iroh.RelayConfig {
  return url.startsWith("https:") ? { url, quicPort: RELAY_QUIC_PORT } : { url };
}

function alpnBytes(alpn: string): number[] {
  return BYTES.to(new TextEncoder().encode(alpn));
}
