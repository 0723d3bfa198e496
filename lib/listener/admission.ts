/**
 * Who is being served: at most so many at once, and never one that has authenticated less because of
 * strangers.
 */

import { abortable, delay } from "../async/abort.ts";

/** Long enough to authenticate, over most networks. */
const GRACE_MS = 1_000;
/** By so many ways a dialer may come at once; a source that holds more than these is a crowd. */
const MOST_ROUTES = 3;
/** Newcomers that wait until somebody is no longer young. */
const MOST_WAITING = 16;

/** A place among those being served. Release it when done. */
export interface Permit {
  /** Aborted when the place is given to somebody else. Never happens once authenticated. */
  readonly evicted: AbortSignal;
  /** The peer has been let in: the place is kept until it leaves. */
  authenticated(): void;
  release(): void;
}

/**
 * A fixed number of places. When all are taken, a newcomer gets that of a peer which has not
 * authenticated: one from the source that holds the most such places, and of those the oldest. So a
 * flood from one source takes places from itself, and somebody who means it, and authenticates
 * within a few round trips, is rarely in the way.
 *
 * A dialer may come by several ways at once, and these must not take each other's places: for whoever
 * has only just come, and is not one of many, a newcomer waits.
 */
export class Admission {
  #limit: number;
  #graceMs: number;
  #authenticated = 0;
  /** Not yet authenticated, oldest first, with their sources and since when they are there. */
  #unauthenticated = new Map<AbortController, { source: string; since: number }>();
  #waiting = 0;
  /** Resolved, and made anew, when somebody leaves or is let in. */
  #changed = Promise.withResolvers<void>();

  /** @param graceMs For so long somebody has only just come. */
  constructor(limit: number, graceMs: number = GRACE_MS) {
    this.#limit = limit;
    this.#graceMs = graceMs;
  }

  /** How many are being served. */
  get inUse(): number {
    return this.#authenticated + this.#unauthenticated.size;
  }

  /**
   * Takes a place, if need be after a wait of a second or so.
   *
   * @param source Where the peer comes from: an address, a relay.
   * @param signal Gives up.
   * @returns Undefined if there is none to be had.
   * @throws The signal's reason.
   */
  async acquire(source: string, signal: AbortSignal): Promise<Permit | undefined> {
    while (this.inUse >= this.#limit) {
      const next = this.#nextToEvict();
      if (!next) return undefined;
      const rest = next.since + this.#graceMs - performance.now();
      if (next.isOneOfMany || rest <= 0) this.#evict(next.controller);
      else if (this.#waiting >= MOST_WAITING) return undefined;
      else await this.#wait(rest, signal);
    }
    return this.#grant(source);
  }

  #grant(source: string): Permit {
    const controller = new AbortController();
    let state: "stranger" | "authenticated" | "left" = "stranger";
    this.#unauthenticated.set(controller, { source, since: performance.now() });
    return {
      evicted: controller.signal,
      authenticated: () => {
        if (state !== "stranger" || !this.#unauthenticated.delete(controller)) return;
        state = "authenticated";
        this.#authenticated++;
        this.#change();
      },
      release: () => {
        if (state === "left") return;
        if (state === "authenticated") this.#authenticated--;
        else this.#unauthenticated.delete(controller);
        state = "left";
        this.#change();
      },
    };
  }

  /** Whose place a newcomer gets; nobody's if all have authenticated. */
  #nextToEvict():
    | { controller: AbortController; since: number; isOneOfMany: boolean }
    | undefined {
    const held = new Map<string, AbortController[]>();
    for (const [controller, { source }] of this.#unauthenticated) {
      const others = held.get(source);
      if (others) others.push(controller);
      else held.set(source, [controller]);
    }
    let most: AbortController[] = [];
    for (const controllers of held.values()) {
      if (controllers.length > most.length) most = controllers;
    }
    const [controller] = most;
    if (!controller) return undefined;
    const { since } = this.#unauthenticated.get(controller)!;
    return { controller, since, isOneOfMany: most.length > MOST_ROUTES };
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

/** The place was needed for somebody else. */
export class Evicted extends Error {
  override readonly name = "Evicted";

  constructor() {
    super("its place was given to another peer before it authenticated");
  }
}
