/**
 * A connection with one peer, in this program's own terms. It does not load iroh-js, whose objects it is given.
 *
 * iroh-js reports a vanished peer late, so silence_watch.ts does. `watch*` is never used: its callbacks can
 * abort the process.
 */

import type * as Iroh from "@number0/iroh";
import { abortable, delay } from "../async/abort.ts";
import { printable } from "../console/printable.ts";
import type { Duplex, StreamError } from "../streams/duplex.ts";
import type { IrohBytes } from "./bytes.ts";
import { type ConnectionEnd, connectionEnd, connectionEndError } from "./errors.ts";
import type { ConnectionPath } from "./path.ts";
import { SilenceWatch, type Watched } from "./silence_watch.ts";
import { ConnectionStreams } from "./streams.ts";

/** Interval between the heartbeats of iroh. */
const HEARTBEAT_MS = 5_000;
/** Interval between looks for the answer to a close: short against the timeout of those that wait for it. */
const ANSWER_LOOK_INTERVAL_MS = 10;
/** Timeout for a close to leave the machine, which takes 1 to 2 ms. */
const CLOSE_SENT_TIMEOUT_MS = 100;
/** What to tell the peer of a connection on which nothing comes, as dumbpipe would: it may get through. */
const SILENCE: readonly [code: bigint, reason: string] = [0n, "silence"];
/** Maximum length of an address that is shown. Most relays' URLs have 40 characters. */
const MAX_ADDRESS_CHARACTERS = 200;

/** Watches all connections of this process. */
const silenceWatch = new SilenceWatch();

/** Where to dial. */
export interface PeerAddress {
  /** Ed25519 public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** URL of a relay. */
  readonly relay?: string | undefined;
  /** Socket addresses. */
  readonly direct: readonly string[];
}

/** The addresses of an endpoint. */
export interface EndpointAddresses {
  /** URL of the relay through which it can be reached at present. */
  readonly relay: string | undefined;
  /** The socket addresses that it knows of itself. */
  readonly direct: string[];
}

/** Timeout for the close of an endpoint, which takes about a second after a connection was closed. */
export const ENDPOINT_CLOSE_TIMEOUT_MS = 3_000;

/** What the users of a connection need of its endpoint. endpoint.ts implements it. */
export interface LocalEndpoint extends AsyncDisposable {
  knownAddresses(): EndpointAddresses;
  connect(peer: PeerAddress, alpn: string, signal: AbortSignal): Promise<Connection>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A connection with one peer, which has proved its key. */
export class Connection {
  /** Resolves when the connection has ended. Never rejects. */
  readonly closed: Promise<ConnectionEnd>;
  /** Resolves like {@linkcode closed}, to the error of all reads and writes from then on. */
  readonly closedError: Promise<StreamError>;
  readonly #connection: Iroh.Connection;
  readonly #bytes: IrohBytes;
  readonly #streams: ConnectionStreams;
  readonly #silence: Watched;
  #silenceReason = SILENCE;
  /** Number of packets received before this end closed it. */
  #receivedBeforeClose: number | undefined;

  /**
   * @param endpoint Kept, since iroh ends the connections of an endpoint that is garbage-collected.
   * @param bytes The form in which `connection` passes bytes.
   */
  constructor(
    connection: Iroh.Connection,
    readonly endpoint: LocalEndpoint,
    bytes: IrohBytes,
    silence: SilenceWatch = silenceWatch,
  ) {
    this.#connection = connection;
    this.#bytes = bytes;
    const { promise: lost, resolve: lose } = Promise.withResolvers<ConnectionEnd>();
    this.closed = Promise.race([connection.closed().then(connectionEnd), lost]);
    this.closedError = this.closed.then(connectionEndError);
    this.#streams = new ConnectionStreams(bytes, this.closed);
    const watching = silence.watch(() => connection.stats().udpRxDatagrams, () => {
      lose({ by: "loss", detail: `nothing came for ${watching.timeoutMs / 1000} s` });
      this.close(...this.#silenceReason);
    });
    this.#silence = watching;
    this.closed.then(() => watching[Symbol.dispose]());
  }

  /** Takes the connection for lost if no packet comes within this time, and closes it with this code. */
  noticeLossWithin(timeoutMs: number, code: bigint, reason: string): void {
    this.#silence.timeoutMs = timeoutMs;
    this.#silenceReason = [code, reason];
  }

  /** Whether the peer's last heartbeat is overdue. */
  get isSilent(): boolean {
    return this.#silence.silentMs > HEARTBEAT_MS;
  }

  /** The peer's public key, 32 bytes. */
  get publicKey(): Uint8Array {
    return this.#bytes.from(this.#connection.remoteId().toBytes());
  }

  /** The protocol that both ends speak. */
  get alpn(): string {
    return new TextDecoder().decode(this.#bytes.from(this.#connection.alpn()));
  }

  /** The path in use; undefined if there is none at present. */
  get path(): ConnectionPath | undefined {
    const path = this.#selectedPath;
    return path && {
      kind: path.isIp ? "direct" : "relay",
      address: printable(path.remoteAddr, MAX_ADDRESS_CHARACTERS),
    };
  }

  /** Round-trip time of a packet on the path in use; undefined if iroh does not know it yet. */
  get roundTripMs(): number | undefined {
    const rtt = this.#selectedPath?.rttMs;
    return rtt === undefined ? undefined : Number(rtt);
  }

  get #selectedPath(): ReturnType<Iroh.Connection["paths"]>[number] | undefined {
    return this.#connection.paths().find((path) => path.isSelected);
  }

  /** Bytes in UDP packets received so far. */
  get packetBytesReceived(): number {
    return Number(this.#connection.stats().udpRxBytes);
  }

  /** UDP packets received so far. */
  get packetsReceived(): number {
    return Number(this.#connection.stats().udpRxDatagrams);
  }

  /** Bytes in UDP packets sent and received so far, including acknowledgements and heartbeats. */
  get packetBytes(): number {
    const { udpTxBytes, udpRxBytes } = this.#connection.stats();
    return Number(udpTxBytes) + Number(udpRxBytes);
  }

  /** Opens a stream. The peer does not see it before the first write. */
  async open(): Promise<Duplex> {
    return this.#streams.duplex(await this.#streams.result(this.#connection.openBi()));
  }

  /**
   * Accepts the next stream that the peer opens. An aborted call may still take a stream, which is then lost,
   * since no call of iroh-js can be cancelled.
   */
  async accept(signal: AbortSignal): Promise<Duplex> {
    const accepting = this.#streams.result(this.#connection.acceptBi());
    return this.#streams.duplex(await abortable(accepting, signal));
  }

  /**
   * Closes the connection. Data that the peer's program has not read is lost, so both directions must have
   * ended, unless code and reason report an error.
   */
  close(code: bigint, reason: string): void {
    this.#receivedBeforeClose ??= this.packetsReceived;
    this.#connection.close(code, this.#bytes.to(new TextEncoder().encode(reason)));
  }

  /**
   * Resolves when the peer has answered {@linkcode close}, or has ended the connection itself.
   *
   * iroh sends a close once. If this process exits before that has left the machine, the peer does not hear of it.
   * Through a relay and on a busy machine, it can take a while.
   *
   * @throws The signal's reason.
   */
  async closeAnswered(signal: AbortSignal): Promise<void> {
    let isEnded = false; // without a close of ours, which needs no answer
    this.closed.then(({ by }) => isEnded = by !== "us");
    while (!isEnded && this.packetsReceived === this.#receivedBeforeClose) {
      await delay(ANSWER_LOOK_INTERVAL_MS, signal);
    }
  }

  /** Closes the connection like {@linkcode close}, and waits until the close has left the machine. */
  async closeAndSend(code: bigint, reason: string): Promise<void> {
    let isEnded = false; // without a close of ours, so that nothing is sent
    this.closed.then(({ by }) => isEnded = by !== "us");
    const before = this.#connection.stats().udpTxDatagrams;
    this.close(code, reason);
    const deadline = performance.now() + CLOSE_SENT_TIMEOUT_MS;
    const isSent = () => this.#connection.stats().udpTxDatagrams !== before;
    while (performance.now() < deadline && !isEnded && !isSent()) {
      // No timer: on a busy machine those of Deno 2.7 may come up to 20 s late, for which git-annex would wait.
      // If the packet cannot be sent in time, the peer notices the end by its own timeout.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
