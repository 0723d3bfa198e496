/**
 * Admission control: at most `max-connections` permits are in use at a time. A peer that git-annex has not
 * admitted never displaces one that it has.
 */

import { abortable, delay } from "../async/abort.ts";
import { Notifier } from "../async/notifier.ts";

/** Time in which a new permit is not evicted: enough to authenticate over most networks. */
const GRACE_MS = 1_000;
/** Maximum connections that one dialer opens in parallel, one per route; a source with more is a flood. */
const MAX_ROUTES = 3;
/** Maximum strangers that wait for a permit, and how many of them come from one source: a flood gets only half. */
const MAX_WAITING = 16, MAX_WAITING_OF_SOURCE = 8;
/** Timeout for a newcomer. An evicted peer is gone within milliseconds, unless this machine is overloaded. */
const WAIT_TIMEOUT_MS = 5_000;
/** Part of the permits for strangers that may be in use before a newcomer has to prove its address. */
const CROWDED_PART = 1 / 4;

/** The right to be served. Release it when done. */
export interface Permit {
  /** Aborted if another peer is to get the permit. It never is after {@linkcode authenticated}. */
  readonly evicted: AbortSignal;
  /** Whether the peer may only resume a session, which has a permit. */
  readonly isSpare: boolean;
  /** Keeps the permit until its release: git-annex has admitted the peer. */
  authenticated(): void;
  /** Gives the permit back. Sockets, buffers and streams of the peer must be closed by then. */
  release(): void;
}

/** A peer, or one more session of a peer, that asks for a permit. */
export interface Newcomer {
  /** Where it comes from: an IPv4 address, an IPv6 network, or a relay. */
  readonly source: string;
  /** Whether git-annex has admitted the peer on the same connection. */
  readonly isKnown: boolean;
}

/** Limits and clock. Tests pass others. */
export interface AdmissionOptions {
  readonly graceMs: number;
  readonly waitTimeoutMs: number;
  /** Returns the time in milliseconds. */
  readonly now: () => number;
  readonly delay: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}

/** A permit that may be evicted. */
interface Evictable {
  readonly source: string;
  readonly since: number;
}

/**
 * A fixed number of permits. If all are in use, a newcomer gets one from a peer that has not authenticated:
 * of the source that holds most of those, the oldest. A flood from one source therefore displaces itself. A
 * peer that authenticates within a few round trips rarely loses its permit.
 *
 * An evicted permit is in use until its release, for which the newcomer waits. So at most as many peers occupy
 * memory as there are permits.
 *
 * A dialer may open several connections in parallel, and these must not displace each other. A newcomer
 * therefore waits until the grace time of that permit is over, unless its source is a flood.
 */
export class Admission {
  #limit: number;
  #options: AdmissionOptions;
  #authenticated = 0;
  /** Permits of peers that have not authenticated, oldest first. */
  #strangers = new Map<AbortController, Evictable>();
  /** Number of permits that were evicted and are not released yet. */
  #leaving = 0;
  /** Newcomers that wait, in their order. */
  #waiting = new Set<Newcomer>();
  #changed = new Notifier();
  /** Number of spare permits in use. */
  #spares = 0;

  constructor(limit: number, options: Partial<AdmissionOptions> = {}) {
    this.#limit = limit;
    this.#options = {
      graceMs: GRACE_MS,
      waitTimeoutMs: WAIT_TIMEOUT_MS,
      now: () => performance.now(),
      delay,
      ...options,
    };
  }

  /** Number of permits in use. */
  get inUse(): number {
    return this.#authenticated + this.#strangers.size + this.#leaving;
  }

  /** Whether strangers hold so many permits that a newcomer has to prove its address. */
  get isCrowded(): boolean {
    const forStrangers = this.#limit - this.#authenticated;
    return this.#strangers.size + this.#leaving > forStrangers * CROWDED_PART;
  }

  /**
   * Takes a permit. May wait for a grace time, and for the release of an evicted permit.
   *
   * @param signal Gives up.
   * @returns Undefined if none can be had.
   * @throws The signal's reason.
   */
  async acquire({ source, isKnown }: Newcomer, signal: AbortSignal): Promise<Permit | undefined> {
    if (this.inUse < this.#limit) return this.#grant(source);
    if (!isKnown && this.#isQueueFull(source)) return undefined;
    const newcomer = { source, isKnown }; // an object of its own
    this.#waiting.add(newcomer);
    try {
      return await this.#wait(newcomer, signal);
    } finally {
      this.#waiting.delete(newcomer);
      this.#changed.notify(); // those behind it move up
    }
  }

  #isQueueFull(source: string): boolean {
    const strangers = [...this.#waiting].filter(({ isKnown }) => !isKnown);
    const ofSource = strangers.filter((other) => other.source === source);
    return strangers.length >= MAX_WAITING || ofSource.length >= MAX_WAITING_OF_SOURCE;
  }

  /** Waits for a permit. @returns Undefined if none can be had. @throws The signal's reason. */
  async #wait(newcomer: Newcomer, signal: AbortSignal): Promise<Permit | undefined> {
    const { graceMs, waitTimeoutMs, now } = this.#options;
    const deadline = now() + waitTimeoutMs;
    for (;;) {
      // It is granted in the turn that finds it free: others who wait look in the same one.
      if (this.inUse < this.#limit) return this.#grant(newcomer.source);
      if (now() >= deadline) return undefined;
      const ahead = [...this.#waiting].indexOf(newcomer);
      let waitMs = deadline - now();
      if (ahead >= this.#leaving) {
        const next = this.#nextToEvict();
        if (!next) return undefined;
        const graceLeftMs = next.isOfFlood ? 0 : next.since + graceMs - now();
        if (graceLeftMs <= 0) {
          this.#evict(next.controller);
          continue;
        }
        waitMs = Math.min(waitMs, graceLeftMs);
      }
      await this.#change(waitMs, signal);
    }
  }

  /** Waits for a change, for at most some time. @throws The signal's reason. */
  async #change(milliseconds: number, signal: AbortSignal): Promise<void> {
    const done = new AbortController();
    const timeout = this.#options.delay(milliseconds, done.signal).catch(() => {}); // done
    try {
      await abortable(Promise.race([this.#changed.next(), timeout]), signal);
    } finally {
      done.abort();
    }
  }

  /**
   * Takes a permit beyond the limit, for the connection of a peer that may resume a session.
   *
   * @param limit Maximum number of such permits.
   * @returns Undefined if none can be had.
   */
  acquireSpare(limit: number): Permit | undefined {
    if (this.#spares >= limit) return undefined;
    this.#spares++;
    let isInUse = true;
    return {
      evicted: new AbortController().signal,
      isSpare: true,
      authenticated: () => {},
      release: () => {
        if (isInUse) this.#spares--;
        isInUse = false;
      },
    };
  }

  #grant(source: string): Permit {
    const controller = new AbortController();
    let state: "stranger" | "authenticated" | "released" = "stranger";
    this.#strangers.set(controller, { source, since: this.#options.now() });
    return {
      evicted: controller.signal,
      isSpare: false,
      authenticated: () => {
        if (state !== "stranger" || !this.#strangers.delete(controller)) return;
        state = "authenticated";
        this.#authenticated++;
        this.#changed.notify();
      },
      release: () => {
        if (state === "released") return;
        if (state === "authenticated") this.#authenticated--;
        else if (!this.#strangers.delete(controller)) this.#leaving--;
        state = "released";
        this.#changed.notify();
      },
    };
  }

  /** Returns the permit that a newcomer gets; undefined if all peers have authenticated, or leave. */
  #nextToEvict(): { controller: AbortController; since: number; isOfFlood: boolean } | undefined {
    const bySource = Map.groupBy(this.#strangers, ([, { source }]) => source);
    let most: [AbortController, Evictable][] = [];
    for (const permits of bySource.values()) if (permits.length > most.length) most = permits;
    const [oldest] = most;
    if (!oldest) return undefined;
    const [controller, { since }] = oldest;
    return { controller, since, isOfFlood: most.length > MAX_ROUTES };
  }

  #evict(controller: AbortController): void {
    this.#strangers.delete(controller);
    this.#leaving++;
    controller.abort(new Evicted());
  }
}

/** Another peer gets the permit. */
export class Evicted extends Error {
  override readonly name = "Evicted";

  constructor() {
    super("another peer got its permit before it authenticated");
  }
}
