/** The endpoints of one dial. */

import { isIP } from "../platform/ip_address.ts";
import { debug } from "../console/stderr.ts";
import type { LocalEndpoint } from "../iroh/connection.ts";
import type { EndpointOptions } from "../iroh/endpoint.ts";
import { withAnyPort } from "../platform/socket_address.ts";
import type { Settings } from "../repository/settings.ts";
import type { Route } from "./route.ts";

/** What of the settings an endpoint depends on. */
export type EndpointSettings = Pick<Settings, "relay" | "lookup" | "bind" | "external">;

/** Binds endpoints. Disposed of, it closes those that have not been released. */
export class DialEndpoints implements Disposable {
  readonly #settings: EndpointSettings;
  readonly #bindEndpoint: (options: EndpointOptions) => Promise<LocalEndpoint>;
  readonly #open = new Set<LocalEndpoint>();
  #isDisposed = false;

  /** @param bindEndpoint `Endpoint.bind`, whose module the dialer loads on demand. */
  constructor(
    settings: EndpointSettings,
    bindEndpoint: (options: EndpointOptions) => Promise<LocalEndpoint>,
  ) {
    this.#settings = settings;
    this.#bindEndpoint = bindEndpoint;
  }

  /** Binds an endpoint for all routes. @throws {BindError} if the UDP socket cannot be opened. */
  bindShared(): Promise<LocalEndpoint> {
    return this.#bind(this.#settings);
  }

  /** Binds an endpoint that knows no route but this one. @throws {BindError} as {@linkcode bindShared}. */
  bindFor({ kind }: Route): Promise<LocalEndpoint> {
    const isRelayed = kind === "relay" || kind === "lookup";
    return this.#bind({
      relay: isRelayed ? this.#settings.relay : { kind: "none" },
      lookup: kind === "lookup",
    });
  }

  async #bind({ relay, lookup }: Pick<Settings, "relay" | "lookup">): Promise<LocalEndpoint> {
    const { bind, external } = this.#settings;
    const endpoint = await this.#bindEndpoint({
      // No secret key: each endpoint has a fresh one, unless the caller of dialPeer() gives one. The repository's
      // key is the listener's, and a relay gives the packets of two endpoints with one key to the newer one.
      relay,
      lookup,
      // The port in the setting is the listener's.
      bind: bind && withAnyPort(bind),
      // A port in the setting is forwarded to the listener. An address alone means a router that keeps ports.
      external: external !== undefined && isIP(external) !== 0 ? external : undefined,
    });
    this.#open.add(endpoint);
    if (this.#isDisposed) this.close(endpoint);
    return endpoint;
  }

  /** Leaves an endpoint open, for the connection that has won. */
  release(endpoint: LocalEndpoint): void {
    this.#open.delete(endpoint);
  }

  /** Closes an endpoint. Never rejects. */
  async close(endpoint: LocalEndpoint): Promise<void> {
    this.#open.delete(endpoint);
    try {
      await endpoint[Symbol.asyncDispose]();
    } catch (error) {
      debug(() => `closing a socket: ${error}`); // the end of the process closes it
    }
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    // Not awaited: closing may take a second, and git-annex would wait for it.
    for (const endpoint of this.#open) this.close(endpoint);
  }
}
