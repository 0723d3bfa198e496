/** TLS 1.3 over TCP: the fastest lane, if one end can accept connections. */

import { abortable } from "../async/abort.ts";
import { setNoDelayForAccepted } from "../platform/socket_options.ts";
import { closeQuietly } from "../platform/socket_errors.ts";
import { socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import { type Certificate, certificatePem, SERVER_NAME } from "./certificate.ts";
import type { Transport } from "./lane.ts";

/** Size of the read buffer. Deno returns at most one TLS record (16 KiB) per read. */
const READ_BYTES = 16 * 1024;

/**
 * Connects to `address`, which must show the certificate `der`.
 *
 * @throws Deno's error if it does not, or the signal's reason.
 */
export async function connectTls(
  address: string,
  der: Uint8Array,
  signal: AbortSignal,
): Promise<Transport> {
  const { host, port } = splitSocketAddress(address);
  const close = (late: Deno.Conn) => closeQuietly(late);
  // If nothing answers, Deno frees the socket at once because it has the signal, too.
  const tcp = await abortable(Deno.connect({ hostname: host, port, signal }), signal, close);
  try {
    tcp.setNoDelay();
    const caCerts = [certificatePem(der)];
    const starting = Deno.startTls(tcp, { hostname: SERVER_NAME, caCerts });
    const tls = await abortable(starting, signal, close);
    return await handshake(tls, signal);
  } catch (error) {
    closeQuietly(tcp);
    throw error;
  }
}

/** Listens on a TCP port that the system chooses. Dispose of it to stop; accepted connections go on. */
export class TlsPort implements Disposable {
  #listener: Deno.TlsListener;

  /** @param hostname The IP address to listen on. @throws The system's error. */
  constructor(hostname: string, { certificatePem, privateKeyPem }: Certificate) {
    this.#listener = Deno.listenTls({
      hostname,
      port: 0,
      cert: certificatePem,
      key: privateKeyPem,
    });
    setNoDelayForAccepted(this.port);
  }

  get port(): number {
    return (this.#listener.addr as Deno.NetAddr).port;
  }

  /** Yields each connection that comes in, before its handshake, until the port is disposed of. */
  async *incoming(): AsyncGenerator<(signal: AbortSignal) => Promise<Transport>> {
    for (;;) {
      let tls: Deno.TlsConn;
      try {
        tls = await this.#listener.accept();
      } catch (error) {
        // Closed: nothing comes after that. Reset: the other end has hung up, and others may come.
        if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) {
          return;
        }
        if (error instanceof Deno.errors.ConnectionReset) continue;
        throw error;
      }
      yield (signal) => handshake(tls, signal);
    }
  }

  [Symbol.dispose](): void {
    this.#listener.close();
  }
}

async function handshake(tls: Deno.TlsConn, signal: AbortSignal): Promise<Transport> {
  try {
    await abortable(tls.handshake(), signal);
    return new TlsTransport(tls);
  } catch (error) {
    closeQuietly(tls);
    throw error;
  }
}

class TlsTransport implements Transport {
  readonly kind = "TLS";
  readonly remote: string;
  readonly local: string;
  #tls: Deno.TlsConn;
  #buffer = new Uint8Array(READ_BYTES);

  constructor(tls: Deno.TlsConn) {
    this.#tls = tls;
    const { hostname, port } = tls.remoteAddr as Deno.NetAddr;
    this.remote = socketAddress(hostname, port);
    this.local = (tls.localAddr as Deno.NetAddr).hostname;
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const length = await this.#tls.read(this.#buffer);
    return length === null ? undefined : this.#buffer.subarray(0, length);
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let rest = bytes; rest.length > 0;) rest = rest.subarray(await this.#tls.write(rest));
  }

  close(): void {
    closeQuietly(this.#tls);
  }
}
