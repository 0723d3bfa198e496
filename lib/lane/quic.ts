/**
 * QUIC over UDP, by Deno's own endpoint. It is the lane for hosts that only hole punching reaches: both dial at
 * once, each from the port on which it listens.
 */

import { abortable } from "../async/abort.ts";
import { Notifier } from "../async/notifier.ts";
import { garbageCollector } from "../platform/garbage.ts";
import { socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { setUdpReceiveBuffer } from "../platform/socket_options.ts";
import { type Certificate, certificatePem, SERVER_NAME } from "./certificate.ts";
import { systemReason } from "../console/failure.ts";
import { LaneError, type Transport } from "./lane.ts";

/** Application protocol that both ends name. */
export const LANE_ALPN = "git-annex-p2p-iroh-lane/1";
const TRANSPORT = {
  keepAliveInterval: 5_000,
  // A process that stands still (Ctrl-Z) keeps its lane. If the peer is gone, iroh's connection tells.
  maxIdleTimeout: 10 * 60_000,
  // Each stream that the other end may open costs memory. Only the dialing end opens one.
  maxConcurrentBidirectionalStreams: 0,
  maxConcurrentUnidirectionalStreams: 0,
};
/** Size of the read buffer. Deno seldom has more at a time. */
const READ_BYTES = 128 * 1024;
/**
 * Receive buffer of a lane's socket. Linux doubles it. Deno's QUIC has at most 1.25 MB under way for a stream, which
 * take up to three times that in the kernel.
 */
const RECEIVE_BUFFER_BYTES = 2 << 20;
/** Maximum connections that wait until the port's owner listens: more than the peer dials at once. */
const MAX_WAITING = 64;
/** Time from closing an endpoint until nothing uses it, so that it can be garbage-collected. */
const COLLECT_AFTER_MS = 500;

/**
 * Listens and dials on a UDP port that the system chooses. Dispose of it to stop.
 *
 * Each connection that comes in is taken from Deno and, if it is not wanted, ignored. Deno's listener is never
 * stopped: Deno panics if a packet of a connection that was not taken comes after the stop.
 */
export class QuicPort implements Disposable {
  /** The port's number. */
  readonly port: number;
  /** Undefined once closed, since Deno closes the socket only when the endpoint is garbage-collected. */
  #endpoint: Deno.QuicEndpoint | undefined;
  #isAccepting = true;
  /** Connections that have come in, and wait for {@linkcode incoming}. */
  #waiting: Deno.QuicIncoming[] = [];
  #arrived = new Notifier();
  /** True if a transport goes on when this is disposed of, and with it the socket. */
  #kept = false;

  /** Opens a port. @param hostname The IP address to listen on. @returns Undefined if Deno has no QUIC. */
  static open(hostname: string, certificate: Certificate): QuicPort | undefined {
    return Deno.QuicEndpoint ? new QuicPort(hostname, certificate) : undefined;
  }

  private constructor(hostname: string, { certificatePem, privateKeyPem }: Certificate) {
    const endpoint = new Deno.QuicEndpoint({ hostname, port: 0 });
    this.port = endpoint.addr.port;
    this.#endpoint = endpoint;
    this.#run(endpoint.listen({
      cert: certificatePem,
      key: privateKeyPem,
      alpnProtocols: [LANE_ALPN],
      ...TRANSPORT,
      maxConcurrentBidirectionalStreams: 1,
    }));
  }

  /** Takes what comes in until the socket is closed. Never rejects. */
  async #run(listener: Deno.QuicListener): Promise<void> {
    for (;;) {
      let incoming: Deno.QuicIncoming;
      try {
        incoming = await listener.incoming();
      } catch {
        return this.#stopAccepting(); // it was closed, which Deno reports by several errors
      }
      if (this.#isAccepting && this.#waiting.length < MAX_WAITING) this.#waiting.push(incoming);
      else incoming.ignore();
      this.#arrived.notify();
    }
  }

  #stopAccepting(): void {
    this.#isAccepting = false;
    for (const incoming of this.#waiting.splice(0)) incoming.ignore();
    this.#arrived.notify();
  }

  /**
   * Connects to `address`, which must show the certificate `der`.
   *
   * @throws Deno's error if it does not, or the signal's reason.
   */
  async connect(address: string, der: Uint8Array, signal: AbortSignal): Promise<Transport> {
    if (!this.#endpoint) throw new LaneError("its port is closed");
    const { host, port } = splitSocketAddress(address);
    const dialing = Deno.connectQuic<false>({
      hostname: host,
      port,
      serverName: SERVER_NAME,
      alpnProtocols: [LANE_ALPN],
      caCerts: [certificatePem(der)],
      endpoint: this.#endpoint,
      ...TRANSPORT,
    });
    const connection = await connected(dialing, signal);
    const stream = abortable(connection.createBidirectionalStream(), signal);
    return new QuicTransport(this, connection, await stream.catch(closing(connection)));
  }

  /** Yields each connection that comes in, before its stream, until this is disposed of. Call it once. */
  async *incoming(): AsyncGenerator<(signal: AbortSignal) => Promise<Transport>> {
    try {
      while (this.#isAccepting) {
        const incoming = this.#waiting.shift();
        if (incoming) yield (signal) => this.#accept(incoming, signal);
        else await this.#arrived.next();
      }
    } finally {
      this.#stopAccepting(); // the caller wants no further one
    }
  }

  async #accept(incoming: Deno.QuicIncoming, signal: AbortSignal): Promise<Transport> {
    if (!this.#isAccepting || signal.aborted) {
      incoming.ignore();
      throw new LaneError("its port is closed");
    }
    const connection = await connected(incoming.accept() as Promise<Deno.QuicConn>, signal);
    const reader = connection.incomingBidirectionalStreams.getReader();
    const { value } = await abortable(reader.read(), signal).catch(closing(connection));
    if (!value) throw new LaneError("the other end opened no stream");
    return new QuicTransport(this, connection, value);
  }

  /**
   * Keeps the socket open for a transport, which closes it later. Its receive buffer must hold what comes while
   * this process does something else: QUIC takes packets that are lost there for a congested network.
   */
  keep(): void {
    this.#kept = true;
    setUdpReceiveBuffer(this.port, RECEIVE_BUFFER_BYTES);
  }

  /** Closes the socket, and all connections on it. */
  close(): void {
    if (!this.#endpoint) return;
    this.#endpoint.close();
    this.#endpoint = undefined;
    collectSoon();
  }

  [Symbol.dispose](): void {
    this.#stopAccepting();
    if (!this.#kept) this.close();
  }
}

async function connected(
  coming: Promise<Deno.QuicConn>,
  signal: AbortSignal,
): Promise<Deno.QuicConn> {
  const connecting = coming.then((connection) => {
    // Deno 2.6 rejects it although no code asked for it. Reads and writes fail with the same error.
    connection.closed.catch(() => {});
    return connection;
  });
  return await abortable(connecting, signal, (late) => late.close());
}

function closing(connection: Deno.QuicConn): (error: unknown) => never {
  return (error) => {
    connection.close();
    throw error;
  };
}

let timer: ReturnType<typeof setTimeout> | undefined;
/** Number of garbage collections still to come. */
let collections = 0;

/**
 * Collects garbage soon. By itself V8 leaves many endpoints uncollected: it does not know that each holds a
 * socket and 3 MB of memory.
 */
function collectSoon(): void {
  collections = 2; // a closed endpoint may still be in use at the first
  if (timer === undefined) collectInTime();
}

function collectInTime(): void {
  const collectGarbage = garbageCollector();
  if (!collectGarbage) return;
  timer = setTimeout(() => {
    timer = undefined;
    collectGarbage();
    if (--collections > 0) collectInTime();
  }, COLLECT_AFTER_MS);
  Deno.unrefTimer(timer);
}

/** Deno's objects of a connection. */
interface Connected {
  readonly connection: Deno.QuicConn;
  readonly reader: ReadableStreamBYOBReader;
  readonly writer: WritableStreamDefaultWriter<Uint8Array<ArrayBufferLike>>;
}

class QuicTransport implements Transport {
  readonly kind = "QUIC";
  readonly remote: string;
  #port: QuicPort;
  /** Undefined once closed, so that Deno's objects can be garbage-collected. */
  #connected: Connected | undefined;
  /** What has ended the connection. Deno's reads and writes fail with errors that do not tell. */
  #ended: LaneError | undefined;
  /** The read buffer. Each read takes it and gives it back. */
  #memory: ArrayBuffer | undefined;
  #kept = false;

  constructor(port: QuicPort, connection: Deno.QuicConn, stream: Deno.QuicBidirectionalStream) {
    this.#port = port;
    const reader = stream.readable.getReader({ mode: "byob" });
    const writer = stream.writable.getWriter();
    writer.closed.catch(() => {}); // writes fail with the same error
    this.#connected = { connection, reader, writer };
    connection.closed.then(
      () => this.#ended = new LaneError("the peer has closed it"),
      (error) => this.#ended = new LaneError(`its connection is lost, ${systemReason(error)}`),
    );
    const { hostname, port: remotePort } = connection.remoteAddr;
    this.remote = socketAddress(hostname, remotePort);
  }

  /** Keeps the socket of the port open for this transport. */
  keep(): void {
    this.#kept = true;
    this.#port.keep();
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    while (this.#connected) {
      this.#memory ??= new ArrayBuffer(READ_BYTES);
      const reading = this.#connected.reader.read(new Uint8Array(this.#memory));
      const { value, done } = await this.#explained(reading);
      if (done) return undefined;
      this.#memory = value.buffer;
      if (value.length > 0) return value;
    }
    return undefined;
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (!this.#connected) throw new LaneError("the connection is closed");
    await this.#explained(this.#connected.writer.write(bytes));
  }

  async #explained<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      throw this.#ended ?? error;
    }
  }

  close(): void {
    this.#connected?.connection.close();
    this.#connected = undefined;
    if (this.#kept) this.#port.close();
  }
}
