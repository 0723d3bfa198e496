/**
 * Endpoints of iroh-js (@number0/iroh), in this program's own terms. Importing this module loads the native addon.
 *
 * - No call of iroh-js can be cancelled. Waits are therefore raced against signals, and late results closed.
 * - A builder is never used after its `bind()`, nor are `watch*` and `setLogLevel`: they can abort the process.
 */

import { isIP } from "../platform/ip_address.ts";
import type * as Iroh from "@number0/iroh";
import { abortable, LinkedSignal } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { networkOf, socketAddress, splitSocketAddress } from "../platform/socket_address.ts";
import type { RelaySetting, RelayToken } from "../repository/settings.ts";
import { StreamError } from "../streams/duplex.ts";
import { IrohBytes } from "./bytes.ts";
import {
  Connection,
  ENDPOINT_CLOSE_TIMEOUT_MS,
  type EndpointAddresses,
  type LocalEndpoint,
  type PeerAddress,
} from "./connection.ts";
import { BindError, DialError, dialError, irohReason } from "./errors.ts";

// If RUST_BACKTRACE is set, each error of iroh looks up its backtrace's symbols, which takes 25 MiB and tens of
// milliseconds. This variable has precedence over that one (std::backtrace).
Deno.env.set("RUST_LIB_BACKTRACE", "0");

// The compiled program contains the addon alone, packed (tasks/compile.ts).
const iroh = Deno.build.standalone
  ? await (await import("./addon.ts")).loadAddon() as typeof Iroh
  : (await import("@number0/iroh")).default;

/** The form of bytes in the version at hand. */
const BYTES = new IrohBytes((bytes) => iroh.SecretKey.fromBytes(bytes));
/** Port for address discovery, iroh-relay's default. A relay without TLS (http) has no address discovery. */
const RELAY_QUIC_PORT = 7842;

/** How an endpoint is made. */
export interface EndpointOptions {
  /** Ed25519 secret key, 32 bytes; a fresh one by default. */
  readonly secretKey?: Uint8Array;
  /** Protocols to accept; none for an endpoint that only dials. */
  readonly alpns?: readonly string[];
  readonly relay: RelaySetting;
  /** True to publish to iroh's public DNS, and to look up peers there. */
  readonly lookup: boolean;
  /** Address and port of the UDP socket, as `1.2.3.4:5` or `[::1]:5`; any by default. */
  readonly bind?: string | undefined;
  /** IP address, with or without a port, at which peers see it, beside those that iroh finds out. */
  readonly external?: string | undefined;
  /** Timeout for its close; tests pass a shorter one. */
  readonly closeTimeoutMs?: number;
}

/** An iroh endpoint: a key pair and a UDP socket. The caller that binds it disposes of it. */
export class Endpoint implements LocalEndpoint {
  readonly #endpoint: Iroh.Endpoint;
  readonly #relayToken: RelayToken | undefined;
  readonly #closeTimeoutMs: number;

  private constructor(
    endpoint: Iroh.Endpoint,
    { relay, closeTimeoutMs = ENDPOINT_CLOSE_TIMEOUT_MS }: EndpointOptions,
  ) {
    this.#endpoint = endpoint;
    this.#closeTimeoutMs = closeTimeoutMs;
    this.#relayToken = relay.kind === "custom" ? relay.token : undefined;
  }

  /** Binds an endpoint. @throws {BindError} if the UDP socket cannot be opened. */
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
      endpoint = new Endpoint(await builder.bind(), options);
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

  /** Returns the sockets that it is bound to, as `0.0.0.0:5` or `[::]:5`. */
  boundSockets(): string[] {
    return this.#endpoint.boundSockets();
  }

  /** Returns its relay at present and the socket addresses that it knows of itself. */
  addresses(): EndpointAddresses {
    const address = this.#endpoint.addr();
    return { relay: address.relayUrl() ?? undefined, direct: address.directAddresses() };
  }

  /** Returns {@linkcode addresses}, or none if iroh fails to say them. Never throws. */
  knownAddresses(): EndpointAddresses {
    try {
      return this.addresses();
    } catch (error) {
      debug(() => `the endpoint does not know its addresses: ${error}`);
      return { relay: undefined, direct: [] };
    }
  }

  /**
   * Adds an address at which peers see this endpoint, for them to try.
   *
   * @param address An IP address. Without a port, the port of the socket is taken.
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

  /**
   * Waits until a relay has accepted this endpoint. {@linkcode addresses} names a relay as soon as that answers,
   * also one that does not accept it.
   */
  async online(signal: AbortSignal): Promise<void> {
    await abortable(this.#endpoint.online(), signal);
  }

  /** Adds a relay to those from which iroh chooses. @param url One of the setting `relay`, for which the token is. */
  async addRelay(url: string): Promise<void> {
    await this.#endpoint.insertRelay(relayConfig(url, this.#relayToken));
  }

  /** Removes a relay. iroh then uses another, if there is one. Connections through this one go on. */
  async removeRelay(url: string): Promise<void> {
    await this.#endpoint.removeRelay(url);
  }

  /**
   * Connects to a peer.
   *
   * @param signal Aborts the dial. iroh itself gives up after 30 s.
   * @throws {DialError} if the peer cannot be reached, or the signal's reason.
   */
  async connect(peer: PeerAddress, alpn: string, signal: AbortSignal): Promise<Connection> {
    signal.throwIfAborted();
    const address = endpointAddr(peer);
    const dialing = this.#endpoint.connect(address, alpnBytes(alpn)).then(
      (connection) => new Connection(connection, this, BYTES),
      (error) => {
        throw dialError(error);
      },
    );
    return await abortable(dialing, signal, (late) => late.close(0n, "too late"));
  }

  /** Yields the connections that peers ask for, until the endpoint is closed. */
  async *incoming(): AsyncGenerator<Incoming> {
    for (;;) {
      const next = await this.#endpoint.acceptNext();
      if (!next) return;
      yield new Incoming(next, this);
    }
  }

  /**
   * Closes all connections and the socket. If a connection was closed just before, this takes about 1 s, for
   * which a process that exits need not wait.
   *
   * It has a timeout, since iroh 1.0.2 may wait for ever: if a peer has forgotten a connection and says so twice at
   * once, iroh counts that connection twice (https://github.com/n0-computer/noq/issues/743). All that is to be sent
   * has been sent by then.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    using limit = new LinkedSignal([], { milliseconds: this.#closeTimeoutMs });
    try {
      await abortable(this.#endpoint.close(), limit.signal);
    } catch (error) {
      if (error !== limit.signal.reason) throw error;
      debug(() => "iroh does not end the close of an endpoint");
    }
  }
}

/** Where a connection comes from. */
export interface IncomingSource {
  /** An IPv4 address, a network of IPv6, or a relay's URL. */
  readonly name: string;
  /** The same, with the dialer's key if a relay vouches for it, and marked if it may be invented. */
  readonly dialer: string;
  /** Whether the dialer cannot have invented it. */
  readonly isProven: boolean;
}

/** A connection that a peer asks for. Nothing has been answered yet. */
export class Incoming {
  readonly #incoming: Iroh.Incoming;
  readonly #endpoint: Endpoint;

  constructor(incoming: Iroh.Incoming, endpoint: Endpoint) {
    this.#incoming = incoming;
    this.#endpoint = endpoint;
  }

  /** Returns where it comes from. */
  async source(): Promise<IncomingSource> {
    const { kind, addr, endpointId } = await this.#incoming.remoteAddr();
    if (kind !== "ip") { // the relay knows its clients
      return { name: addr ?? kind, dialer: `${addr} ${endpointId}`, isProven: true };
    }
    const isProven = await this.#incoming.remoteAddrValidated();
    const name = networkOf(splitSocketAddress(addr!).host);
    return { name, dialer: isProven ? name : `${name} unproven`, isProven };
  }

  /** Has the dialer prove that it is where its packets come from. It then dials again (RFC 9000, section 8.1.2). */
  async demandProof(): Promise<void> {
    await this.#incoming.retry();
  }

  /** Does not answer. The dialer sends its first packet again, after 1 s and in growing intervals. */
  async ignore(): Promise<void> {
    await this.#incoming.ignore();
  }

  /** Refuses it, before any cryptography. */
  async refuse(): Promise<void> {
    await this.#incoming.refuse();
  }

  /**
   * Accepts it.
   *
   * @param onOver Called when iroh has finished the handshake, or has given it up, which may be long after the signal.
   * @throws {StreamError} if the handshake fails, or the signal's reason.
   */
  async accept(signal: AbortSignal, onOver = () => {}): Promise<Connection> {
    const handshake = (async () => {
      try {
        const accepting = await this.#incoming.accept();
        return new Connection(await accepting.connect(), this.#endpoint, BYTES);
      } finally {
        onOver();
      }
    })();
    try {
      return await abortable(handshake, signal, (late) => late.close(0n, "too late"));
    } catch (error) {
      signal.throwIfAborted();
      throw new StreamError("lost", irohReason(error), { cause: error });
    }
  }
}

function endpointAddr(peer: PeerAddress): Iroh.EndpointAddr {
  let id: Iroh.EndpointId;
  try {
    id = iroh.EndpointId.fromBytes(BYTES.to(peer.publicKey));
  } catch (error) {
    throw new DialError("invalid-key", irohReason(error));
  }
  try {
    return new iroh.EndpointAddr(id, peer.relay, [...peer.direct]);
  } catch (error) {
    throw new DialError("no-address", irohReason(error));
  }
}

function relayMode(setting: RelaySetting): Iroh.RelayMode {
  switch (setting.kind) {
    case "n0":
      return iroh.RelayMode.defaultMode();
    case "none":
      return iroh.RelayMode.disabled();
    case "custom": {
      const relays = iroh.RelayMap.empty();
      for (const url of setting.urls) relays.insert(relayConfig(url, setting.token));
      return iroh.RelayMode.custom(relays);
    }
  }
}

/** Returns what iroh needs to know of a relay. It sends the token to exactly this URL. */
function relayConfig(url: string, token: RelayToken | undefined): Iroh.RelayConfig {
  const authToken = token?.forRelay(url);
  return {
    url,
    ...url.startsWith("https:") ? { quicPort: RELAY_QUIC_PORT } : {},
    ...authToken === undefined ? {} : { authToken },
  };
}

function alpnBytes(alpn: string): number[] {
  return BYTES.to(new TextEncoder().encode(alpn));
}
