/** How long a dial may take, and when its failure means that the peer is away. */

import { delay, LinkedSignal } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { sendingHosts } from "../platform/network_interfaces.ts";
import { isLoopback } from "../platform/ip_address.ts";
import { splitSocketAddress } from "../platform/socket_address.ts";
import type { Settings } from "../repository/settings.ts";
import type { Ticket } from "../repository/ticket.ts";

/** Time limits of a dial. */
export interface DialLimits {
  /** Timeout for the dial. */
  readonly totalMs: number;
  /** Timeout from the time when this host is online: a slow network of its own is not an absent peer. */
  readonly onlineMs: number;
}

/** For a peer of which nothing is known. A peer on the other side of the world answers within 2 s. */
export const DIAL_LIMITS: DialLimits = { totalMs: 20_000, onlineMs: 8_000 };
/** For a peer that is believed away. Through a relay and with a round trip of 300 ms, a listener needs 0.3 s. */
export const AWAY_LIMITS: DialLimits = { totalMs: 4_000, onlineMs: 1_500 };
/**
 * For such a peer without a listener. A process with a round trip of 300 ms reaches a peer 1.1 to 1.7 s after its
 * start, but knows only later that it is online.
 */
export const AWAY_ALONE_LIMITS: DialLimits = { totalMs: 4_000, onlineMs: 1_000 };
/** For a peer after a dial that told nothing of it. git-annex makes four to six dials in a `sync`. */
export const REPEATED_LIMITS: DialLimits = { totalMs: 4_000, onlineMs: 4_000 };
/** For a session that is resumed, and for a user who waits for the answer. iroh itself gives up after 30 s. */
export const PATIENT_LIMITS: DialLimits = { totalMs: 25_000, onlineMs: 25_000 };

/** Time after a failed dial in which further ones fail at once: those of one `git annex sync`. */
export const FAILS_AT_ONCE_MS = 10_000;

/** Interval between looks whether this host is online. */
const LOOK_INTERVAL_MS = 50;

/** What is needed of an endpoint. */
interface RelayedEndpoint {
  /** Returns the relay that answers. */
  knownAddresses(): { readonly relay: string | undefined };
}

/** Ends a dial in time. Dispose of it when the dial is over. */
export class DialDeadline implements Disposable {
  readonly #limits: DialLimits;
  readonly #linked: LinkedSignal;
  readonly #expired = new AbortController();
  #state: "offline" | "online" | "peer had its time" = "offline";

  /** @param signal Ends the dial, too. */
  constructor(limits: DialLimits, signal: AbortSignal) {
    this.#limits = limits;
    this.#linked = new LinkedSignal([signal, this.#expired.signal], {
      milliseconds: limits.totalMs,
      reason: noAnswer(limits.totalMs),
    });
  }

  /** Aborted at the end of the time. */
  get signal(): AbortSignal {
    return this.#linked.signal;
  }

  /** True if a peer that is there would have answered by now, unless it has refused. */
  get hadTime(): boolean {
    return this.#state === "peer had its time" ||
      this.#state === "online" && !this.signal.aborted;
  }

  /** Waits until this host is online, and begins the peer's time. Never rejects. */
  async begin(isOnline: () => boolean): Promise<void> {
    const { onlineMs } = this.#limits;
    try {
      while (!isOnline()) await delay(LOOK_INTERVAL_MS, this.signal);
      this.#state = "online";
      debug(() => "this host is online");
      await delay(onlineMs, this.signal);
      this.#state = "peer had its time";
      this.#expired.abort(noAnswer(onlineMs));
    } catch {
      // the dial is over
    }
  }

  [Symbol.dispose](): void {
    this.#expired.abort(new Error("the dial is over"));
    this.#linked[Symbol.dispose]();
  }
}

/** Tells whether this host is online, as far as a peer's absence can be told from its own. */
export function isOnline(
  endpoint: RelayedEndpoint,
  { relay }: Pick<Settings, "relay">,
  ticket: Pick<Ticket, "direct">,
): boolean {
  if (relay.kind !== "none") return endpoint.knownAddresses().relay !== undefined;
  return hasNetwork(ticket);
}

/** Tells whether this host has an address from which a peer can be reached. */
export function hasNetwork({ direct }: Pick<Ticket, "direct">): boolean {
  const isThisHost = direct.length > 0 &&
    direct.every((address) => isLoopback(splitSocketAddress(address).host));
  return isThisHost || sendingHosts() !== "";
}

function noAnswer(milliseconds: number): Error {
  return new Error(`no answer within ${milliseconds / 1000} s`);
}
