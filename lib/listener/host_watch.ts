/** Notices that this host may reach other peers than before, and when a failed dial tells nothing of the peer. */

import { answersPing } from "../iroh/home_relay.ts";
import { debug } from "../console/stderr.ts";
import { sendingHosts } from "../platform/network_interfaces.ts";

/**
 * Time by which the wall clock is ahead of the monotonic one, beyond what it was, after a sleep. A smaller step is
 * a correction of the clock.
 */
const SLEPT_MS = 5_000;

/** What a {@linkcode HostWatch} looks at; tests pass something else. */
export interface HostWatchOptions {
  /** Returns the relay through which this host can be reached. */
  readonly relay: () => string | undefined;
  /** Returns the addresses of this host. */
  readonly hosts?: () => string;
  readonly wallClock?: () => number;
  /** A clock that stands still while the machine is asleep. */
  readonly monotonicClock?: () => number;
  /** Tells whether a relay answers. */
  readonly ping?: (relay: string, signal: AbortSignal) => Promise<boolean>;
}

/** Watches the network and the clocks of this host. */
export class HostWatch {
  readonly #options: Required<HostWatchOptions>;
  #network: string;
  #lead: number;
  #pinging: Promise<boolean> | undefined;

  constructor(options: HostWatchOptions) {
    this.#options = {
      hosts: sendingHosts,
      wallClock: Date.now,
      monotonicClock: () => performance.now(),
      ping: answersPing,
      ...options,
    };
    this.#network = this.#presentNetwork();
    this.#lead = this.#presentLead();
  }

  /** Tells whether this host is on another network than at the last call, or was asleep since. */
  hasChanged(): boolean {
    const network = this.#presentNetwork(), lead = this.#presentLead();
    const hasMoved = network !== this.#network, hasSlept = lead - this.#lead > SLEPT_MS;
    if (hasMoved || hasSlept) {
      debug(() => hasMoved ? "this host is on another network" : "this host was asleep");
    }
    this.#network = network;
    this.#lead = lead;
    return hasMoved || hasSlept;
  }

  /** Tells whether the relay answers, if there is one. iroh notices late that it does not. Never rejects. */
  async isOnline(signal: AbortSignal): Promise<boolean> {
    const relay = this.#options.relay();
    if (relay === undefined) return true; // the dial has judged by itself
    this.#pinging ??= this.#options.ping(relay, signal).finally(() => this.#pinging = undefined);
    return await this.#pinging;
  }

  #presentNetwork(): string {
    return `${this.#options.hosts()} ${this.#options.relay() ?? ""}`;
  }

  #presentLead(): number {
    return this.#options.wallClock() - this.#options.monotonicClock();
  }
}
