/**
 * QUIC over UDP, by Deno's own endpoint: the lane for hosts that only hole punching reaches, which is
 * both of them dialing at once, each from the port on which it listens.
 */

import { abortable } from "../async/abort.ts";
import { socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { type Certificate, certificatePem, SERVER_NAME } from "./certificate.ts";
import { LaneError, type Transport } from "./lane.ts";

/** Application protocol both ends name. */
const LANE_ALPN = "git-annex-p2p-iroh-lane/1";
const TRANSPORT = {
  keepAliveInterval: 5_000,
  // A process that stands still (Ctrl-Z) keeps its lane. If the peer is gone, iroh's connection tells.
  maxIdleTimeout: 10 * 60_000,
  // What others may open bounds what they may send before it is read: whoever dials opens one stream.
  maxConcurrentBidirectionalStreams: 0,
  maxConcurrentUnidirectionalStreams: 0,
};
/** Deno seldom has more at a time. */
const READ_BYTES = 128 * 1024;
/** From when an endpoint is closed to when nothing uses it any more. */
const COLLECT_AFTER_MS = 500;

/** Listens, and dials, on a UDP port of the system's choice. Dispose of it to stop. */
export class QuicPort implements Disposable {
  /** Its number. */
  readonly port: number;
  /** Let go of when it is closed, as is all that belongs to it: Deno closes the socket by collecting it. */
  #endpoint: Deno.QuicEndpoint | undefined;
  #listener: Deno.QuicListener | undefined;
  /** The transport that goes on, and with it the socket, when this is disposed of. */
  #kept = false;

  /** Undefined where Deno has no QUIC. @param hostname The address to listen on. */
  static open(hostname: string, certificate: Certificate): QuicPort | undefined {
    return Deno.QuicEndpoint ? new QuicPort(hostname, certificate) : undefined;
  }

  private constructor(hostname: string, { certificatePem, privateKeyPem }: Certificate) {
    const endpoint = new Deno.QuicEndpoint({ hostname, port: 0 });
    this.port = endpoint.addr.port;
    this.#endpoint = endpoint;
    this.#listener = endpoint.listen({
      cert: certificatePem,
      key: privateKeyPem,
      alpnProtocols: [LANE_ALPN],
      ...TRANSPORT,
      maxConcurrentBidirectionalStreams: 1,
    });
  }

  /** Connects to `address`, which must show the certificate `der`. @throws If it does not, or the signal's reason. */
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

  /** Whoever connects, before its stream, until this is disposed of. */
  async *incoming(): AsyncGenerator<(signal: AbortSignal) => Promise<Transport>> {
    while (this.#listener) {
      let incoming: Deno.QuicIncoming;
      try {
        incoming = await this.#listener.incoming();
      } catch {
        return; // it says in several ways that it was stopped, and nothing else
      }
      yield (signal) => this.#accept(incoming, signal);
    }
  }

  async #accept(incoming: Deno.QuicIncoming, signal: AbortSignal): Promise<Transport> {
    if (!this.#listener) { // to accept what came before it was stopped would end the program
      incoming.ignore();
      throw new LaneError("its port is closed");
    }
    const connection = await connected(incoming.accept() as Promise<Deno.QuicConn>, signal);
    const reader = connection.incomingBidirectionalStreams.getReader();
    const { value } = await abortable(reader.read(), signal).catch(closing(connection));
    if (!value) throw new LaneError("it ended without a stream");
    return new QuicTransport(this, connection, value);
  }

  /** The socket stays open for a transport, which is then the one to close it. */
  keep(): void {
    this.#kept = true;
  }

  /** Closes the socket, and whatever goes over it. */
  close(): void {
    if (!this.#endpoint) return;
    this.#endpoint.close();
    this.#endpoint = undefined;
    collectSoon();
  }

  [Symbol.dispose](): void {
    this.#listener?.stop();
    this.#listener = undefined;
    if (!this.#kept) this.close();
  }
}

async function connected(
  coming: Promise<Deno.QuicConn>,
  signal: AbortSignal,
): Promise<Deno.QuicConn> {
  const connecting = coming.then((connection) => {
    // Deno 2.6 rejects it where nobody asks for it; whoever reads or writes is told, too.
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
/** Collections still to come. */
let collections = 0;

/**
 * Has garbage collected, if the program was started with what that takes: the collector does not know
 * that each endpoint holds a socket, and 3 MB into which it receives, and would leave many lying.
 */
function collectSoon(): void {
  collections = 2; // what was closed may still be in use at the first
  if (timer === undefined) collectInTime();
}

function collectInTime(): void {
  const { collectGarbage } = globalThis as { collectGarbage?: () => void };
  if (!collectGarbage) return;
  timer = setTimeout(() => {
    timer = undefined;
    collectGarbage();
    if (--collections > 0) collectInTime();
  }, COLLECT_AFTER_MS);
  Deno.unrefTimer(timer);
}

/** What Deno has of a connection. */
interface Connected {
  readonly connection: Deno.QuicConn;
  readonly reader: ReadableStreamBYOBReader;
  readonly writer: WritableStreamDefaultWriter<Uint8Array<ArrayBufferLike>>;
}

class QuicTransport implements Transport {
  readonly kind = "QUIC";
  readonly remote: string;
  #port: QuicPort;
  /** Let go of when it is closed, as by its port. */
  #connected: Connected | undefined;
  /** Lent to each read, which gives it back. */
  #memory: ArrayBuffer | undefined;
  #kept = false;

  constructor(port: QuicPort, connection: Deno.QuicConn, stream: Deno.QuicBidirectionalStream) {
    this.#port = port;
    const reader = stream.readable.getReader({ mode: "byob" });
    const writer = stream.writable.getWriter();
    writer.closed.catch(() => {}); // writes fail with the same
    this.#connected = { connection, reader, writer };
    const { hostname, port: remotePort } = connection.remoteAddr;
    this.remote = socketAddress(hostname, remotePort);
  }

  /** To be called for the one that becomes the lane. */
  keep(): void {
    this.#kept = true;
    this.#port.keep();
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    while (this.#connected) {
      this.#memory ??= new ArrayBuffer(READ_BYTES);
      const { value, done } = await this.#connected.reader.read(new Uint8Array(this.#memory));
      if (done) return undefined;
      this.#memory = value.buffer;
      if (value.length > 0) return value;
    }
    return undefined;
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (!this.#connected) throw new LaneError("it is closed");
    await this.#connected.writer.write(bytes);
  }

  close(): void {
    this.#connected?.connection.close();
    this.#connected = undefined;
    if (this.#kept) this.#port.close();
  }
}
