/**
 * QUIC over UDP, by Deno's own endpoint: the lane for hosts that only hole punching reaches, which is
 * both of them dialing at once, each from the port on which it listens.
 */

import { abortable } from "../abortable.ts";
import { socketAddress, splitSocketAddress } from "../socket_address.ts";
import { type Certificate, certificatePem, SERVER_NAME } from "./certificate.ts";
import type { Transport } from "./lane.ts";
import { STREAMS, StripedReader, StripedWriter } from "./stripes.ts";

/** Application protocol both ends name. */
const LANE_ALPN = "git-annex-p2p-iroh-lane/1";
const TRANSPORT = {
  keepAliveInterval: 5_000,
  maxIdleTimeout: 25_000,
  // They bound what others may send before it is read.
  maxConcurrentUnidirectionalStreams: STREAMS,
  maxConcurrentBidirectionalStreams: 0,
};

/** Listens, and dials, on a UDP port of the system's choice. Dispose of it to stop. */
export class QuicPort implements Disposable {
  #endpoint: Deno.QuicEndpoint;
  #listener: Deno.QuicListener;
  /** The transport that goes on, and with it the socket, when this is disposed of. */
  #kept = false;

  /** Undefined where Deno has no QUIC. @param hostname The address to listen on. */
  static open(hostname: string, certificate: Certificate): QuicPort | undefined {
    return Deno.QuicEndpoint ? new QuicPort(hostname, certificate) : undefined;
  }

  private constructor(hostname: string, { certificatePem, privateKeyPem }: Certificate) {
    this.#endpoint = new Deno.QuicEndpoint({ hostname, port: 0 });
    this.#listener = this.#endpoint.listen({
      cert: certificatePem,
      key: privateKeyPem,
      alpnProtocols: [LANE_ALPN],
      ...TRANSPORT,
    });
  }

  get port(): number {
    return this.#endpoint.addr.port;
  }

  /** Connects to `address`, which must show the certificate `der`. @throws If it does not, or the signal's reason. */
  async connect(address: string, der: Uint8Array, signal: AbortSignal): Promise<Transport> {
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
    return await this.#transport(dialing, signal);
  }

  /** Whoever connects, until this is disposed of. */
  async *incoming(): AsyncGenerator<(signal: AbortSignal) => Promise<Transport>> {
    for (;;) {
      let incoming: Deno.QuicIncoming;
      try {
        incoming = await this.#listener.incoming();
      } catch {
        return; // it says in several ways that it was stopped, and nothing else
      }
      yield (signal) => this.#transport(incoming.accept() as Promise<Deno.QuicConn>, signal);
    }
  }

  async #transport(coming: Promise<Deno.QuicConn>, signal: AbortSignal): Promise<Transport> {
    const connecting = coming.then((connection) => {
      // Deno 2.6 rejects it where nobody asks for it; whoever reads or writes is told, too.
      connection.closed.catch(() => {});
      return connection;
    });
    return new QuicTransport(this, await abortable(connecting, signal, (late) => late.close()));
  }

  /** The socket stays open for a transport, which is then the one to close it. */
  keep(): void {
    this.#kept = true;
  }

  /** Closes the socket, and whatever goes over it. */
  close(): void {
    this.#endpoint.close();
  }

  [Symbol.dispose](): void {
    this.#listener.stop();
    if (!this.#kept) this.close();
  }
}

class QuicTransport implements Transport {
  readonly kind = "QUIC";
  readonly remote: string;
  #port: QuicPort;
  #connection: Deno.QuicConn;
  #reader: StripedReader;
  #writer: StripedWriter;
  #kept = false;

  constructor(port: QuicPort, connection: Deno.QuicConn) {
    this.#port = port;
    this.#connection = connection;
    const incoming = connection.incomingUnidirectionalStreams.getReader();
    this.#reader = new StripedReader(async () => (await incoming.read()).value);
    this.#writer = new StripedWriter(() => connection.createUnidirectionalStream());
    const { hostname, port: remotePort } = connection.remoteAddr;
    this.remote = socketAddress(hostname, remotePort);
  }

  /** To be called for the one that becomes the lane. */
  keep(): void {
    this.#kept = true;
    this.#port.keep();
  }

  read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.#reader.read();
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#writer.write(bytes);
  }

  close(): void {
    this.#connection.close();
    if (this.#kept) this.#port.close();
  }
}
