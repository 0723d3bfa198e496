/**
 * Admission control: at most `max-connections` permits are in use at a time. A peer that git-annex has not
 * admitted never displaces one that it has.
 */

import { abortable, delay } from "../async/abort.ts";

/** Time in which a new permit is not evicted: enough to authenticate over most networks. */
const GRACE_MS = 1_000;
/** Maximum connections that one dialer opens in parallel, one per route; a source with more is a flood. */
const MAX_ROUTES = 3;
/** Maximum peers that wait for the end of a grace time. It bounds what a flood can keep waiting. */
const MAX_WAITING = 16;

/** The right to be served. Release it when done. */
export interface Permit {
  /** Aborted if another peer gets the permit. It never is after {@linkcode authenticated}. */
  readonly evicted: AbortSignal;
  /** Whether the peer may only resume a session, which has a permit. */
  readonly isSpare: boolean;
  /** Keeps the permit until its release: git-annex has admitted the peer. */
  authenticated(): void;
  release(): void;
}

/**
 * A fixed number of permits. If all are in use, a newcomer gets one from a peer that has not authenticated:
 * of the source that holds most of those, the oldest. A flood from one source therefore displaces itself. A
 * peer that authenticates within a few round trips rarely loses its permit.
 *
 * A dialer may open several connections in parallel, and these must not displace each other. A newcomer
 * therefore waits until the grace time of that permit is over, unless its source is a flood.
 */
export class Admission {
  #limit: number;
  #graceMs: number;
  #authenticated = 0;
  /** Permits of peers that have not authenticated, oldest first. */
  #unauthenticated = new Map<AbortController, { source: string; since: number }>();
  /** Number of spare permits in use. */
  #spares = 0;
  #waiting = 0;
  /** Resolved, and replaced, when a permit is released or its peer has authenticated. */
  #changed = Promise.withResolvers<void>();

  constructor(limit: number, graceMs: number = GRACE_MS) {
    this.#limit = limit;
    this.#graceMs = graceMs;
  }

  /** Number of permits in use. */
  get inUse(): number {
    return this.#authenticated + this.#unauthenticated.size;
  }

  /**
   * Takes a permit. May wait for the grace time of another one.
   *
   * @param source Where the peer comes from: an IP address or a relay.
   * @param signal Gives up.
   * @returns Undefined if none can be had.
   * @throws The signal's reason.
   */
  async acquire(source: string, signal: AbortSignal): Promise<Permit | undefined> {
    while (this.inUse >= this.#limit) {
      const next = this.#nextToEvict();
      if (!next) return undefined;
      const rest = next.since + this.#graceMs - performance.now();
      if (next.isOfFlood || rest <= 0) this.#evict(next.controller);
      else if (this.#waiting >= MAX_WAITING) return undefined;
      else await this.#wait(rest, signal);
    }
    return this.#grant(source);
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
    this.#unauthenticated.set(controller, { source, since: performance.now() });
    return {
      evicted: controller.signal,
      isSpare: false,
      authenticated: () => {
        if (state !== "stranger" || !this.#unauthenticated.delete(controller)) return;
        state = "authenticated";
        this.#authenticated++;
        this.#change();
      },
      release: () => {
        if (state === "released") return;
        if (state === "authenticated") this.#authenticated--;
        else this.#unauthenticated.delete(controller);
        state = "released";
        this.#change();
      },
    };
  }

  /** Returns the permit that a newcomer gets; undefined if all peers have authenticated. */
  #nextToEvict():
    | { controller: AbortController; since: number; isOfFlood: boolean }
    | undefined {
    const bySource = new Map<string, AbortController[]>();
    for (const [controller, { source }] of this.#unauthenticated) {
      const others = bySource.get(source);
      if (others) others.push(controller);
      else bySource.set(source, [controller]);
    }
    let most: AbortController[] = [];
    for (const controllers of bySource.values()) {
      if (controllers.length > most.length) most = controllers;
    }
    const [controller] = most;
    if (!controller) return undefined;
    const { since } = this.#unauthenticated.get(controller)!;
    return { controller, since, isOfFlood: most.length > MAX_ROUTES };
  }

  #evict(controller: AbortController): void {
    this.#unauthenticated.delete(controller);
    controller.abort(new Evicted());
  }

  async #wait(milliseconds: number, signal: AbortSignal): Promise<void> {
    const done = new AbortController();
    this.#waiting++;
    try {
      const changed = abortable(this.#changed.promise, signal);
      await Promise.race([changed, delay(milliseconds, AbortSignal.any([signal, done.signal]))]);
    } finally {
      this.#waiting--;
      done.abort();
    }
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** Another peer got the permit. */
export class Evicted extends Error {
  override readonly name = "Evicted";

  constructor() {
    super("another peer got its permit before it authenticated");
  }
}
