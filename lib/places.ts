/**
 * Who is being served: at most so many at once, and never one that has authenticated less because of
 * strangers.
 */

/** Long enough to authenticate, over most networks. */
const YOUNG_MS = 1_000;

/** A place among those being served. Leave it when done. */
export interface Place {
  /** Aborted when the place is given to somebody else. Never happens once authenticated. */
  readonly givenAway: AbortSignal;
  /** The peer has been let in: the place is kept until it leaves. */
  authenticated(): void;
  leave(): void;
}

/**
 * A fixed number of places. When all are taken, a newcomer gets that of a peer which has not
 * authenticated: one from the source that holds the most such places, and of those the oldest. So a
 * flood from one source takes places from itself, and somebody who means it, and authenticates
 * within a few round trips, is rarely in the way.
 *
 * Whoever has only just come keeps its place, unless its source holds most of them all: a dialer may
 * come by several ways at once, and these must not take each other's places.
 */
export class Places {
  #limit: number;
  #now: () => number;
  #authenticated = 0;
  /** Not yet authenticated, oldest first, with their sources and since when they are there. */
  #strangers = new Map<AbortController, { source: string; since: number }>();

  /** @param now A clock, in milliseconds. */
  constructor(limit: number, now: () => number = () => performance.now()) {
    this.#limit = limit;
    this.#now = now;
  }

  /** How many are being served. */
  get taken(): number {
    return this.#authenticated + this.#strangers.size;
  }

  /**
   * Takes a place.
   *
   * @param source Where the peer comes from: an address, a relay.
   * @returns Undefined if all places are held by peers that have authenticated, or have just come.
   */
  enter(source: string): Place | undefined {
    if (this.taken >= this.#limit && !this.#giveAway()) return undefined;
    const controller = new AbortController();
    let state: "stranger" | "authenticated" | "left" = "stranger";
    this.#strangers.set(controller, { source, since: this.#now() });
    return {
      givenAway: controller.signal,
      authenticated: () => {
        if (state !== "stranger" || !this.#strangers.delete(controller)) return;
        state = "authenticated";
        this.#authenticated++;
      },
      leave: () => {
        if (state === "authenticated") this.#authenticated--;
        else this.#strangers.delete(controller);
        state = "left";
      },
    };
  }

  #giveAway(): boolean {
    const held = new Map<string, AbortController[]>();
    for (const [controller, { source }] of this.#strangers) {
      const others = held.get(source);
      if (others) others.push(controller);
      else held.set(source, [controller]);
    }
    let most: AbortController[] = [];
    for (const controllers of held.values()) {
      if (controllers.length > most.length) most = controllers;
    }
    const [oldest] = most;
    if (!oldest) return false;
    const age = this.#now() - this.#strangers.get(oldest)!.since;
    if (age < YOUNG_MS && most.length <= Math.max(1, this.#limit / 2)) return false;
    this.#strangers.delete(oldest);
    oldest.abort(new GivenAway());
    return true;
  }
}

/** The place was needed for somebody else. */
export class GivenAway extends Error {
  override readonly name = "GivenAway";

  constructor() {
    super("its place was given to another peer before it authenticated");
  }
}
