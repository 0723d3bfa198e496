/** Endpoints without a network, for unit tests of dials. */

import { abortable } from "../lib/async/abort.ts";
import type { Connection, LocalEndpoint, PeerAddress } from "../lib/iroh/connection.ts";
import type { EndpointOptions } from "../lib/iroh/endpoint.ts";
import type { DialErrorKind } from "../lib/iroh/errors.ts";
import { DialEndpoints } from "../lib/dial/dial_endpoints.ts";

/** The key that tests dial. */
export const KEY = new Uint8Array(32).fill(7);
/** Settings of an endpoint that a router forwards nothing to. */
export const SETTINGS = {
  relay: { kind: "custom", urls: ["https://relay.example/"] },
  lookup: true,
  bind: undefined,
  external: undefined,
} as const;

/** The outcome of an attempt to connect. "silence" lasts until the attempt is given up. */
export type Answer = "connected" | "silence" | DialErrorKind;

/** Answers an attempt. */
export type Network = (
  peer: PeerAddress,
  alpn: string,
  endpoint: FakeEndpoint,
) => Answer | Promise<Answer>;

/** An endpoint without a socket. */
export class FakeEndpoint implements AsyncDisposable {
  /** Peers that it was asked to connect to. */
  readonly dialed: PeerAddress[] = [];
  isClosed = false;
  readonly #network: Network;

  constructor(readonly options: EndpointOptions, network: Network) {
    this.#network = network;
  }

  async connect(peer: PeerAddress, alpn: string, signal: AbortSignal): Promise<Connection> {
    signal.throwIfAborted();
    this.dialed.push(peer);
    const answer = await abortable(Promise.resolve(this.#network(peer, alpn, this)), signal);
    if (answer === "silence") return await abortable(new Promise<never>(() => {}), signal);
    if (answer !== "connected") throw dialError(answer);
    const path = peer.direct[0]
      ? { kind: "direct", address: peer.direct[0] }
      : { kind: "relay", address: peer.relay };
    return { endpoint: this, path, close() {} } as unknown as Connection;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}

/** Takes the place of iroh. Disposed of, it closes what the dial has not released. */
export class FakeIroh implements Disposable {
  /** Endpoints, in the order in which they were bound. */
  readonly bound: FakeEndpoint[] = [];
  readonly endpoints: DialEndpoints;

  /** @param beforeBind Throws if no socket is to be had, or returns when one is. */
  constructor(network: Network, beforeBind: () => void | Promise<void> = () => {}) {
    this.endpoints = new DialEndpoints(SETTINGS, (options) => {
      let isReady: void | Promise<void>;
      try {
        isReady = beforeBind();
      } catch (error) {
        return Promise.reject(error);
      }
      const endpoint = new FakeEndpoint(options, network);
      this.bound.push(endpoint);
      return isReady
        ? isReady.then(() => asEndpoint(endpoint))
        : Promise.resolve(asEndpoint(endpoint));
    });
  }

  [Symbol.dispose](): void {
    this.endpoints[Symbol.dispose]();
  }
}

/** The fake in the type that the program expects, of which it uses no other part. */
export function asEndpoint(endpoint: FakeEndpoint): LocalEndpoint {
  return endpoint as unknown as LocalEndpoint;
}

/** An error by its parts, as its class loads iroh. */
export function dialError(kind: DialErrorKind): Error {
  return Object.assign(new Error(`it says ${kind}`), { name: "DialError", kind });
}

/** A search on a local network where the test says what is found. */
export class FakeSearch {
  #addresses: string[] = [];
  #untried: string[] = [];
  #onFound = () => {};

  /** Finds addresses. */
  find(...addresses: readonly string[]): void {
    this.#addresses.push(...addresses);
    this.#untried.push(...addresses);
    this.#onFound();
  }

  onFound(listener: () => void): void {
    this.#onFound = listener;
    listener();
  }

  next(): string | undefined {
    return this.#untried.shift();
  }

  get waiting(): number {
    return this.#untried.length;
  }

  resetTried(addresses?: Iterable<string>): void {
    this.#untried = addresses ? [...this.#untried, ...addresses] : [...this.#addresses];
  }
}
